//! Variables, quotes and patterns in words: lines are values, the last one is what is expanded.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut file = String::from("FROM scratch\n");
    for (number, line) in text.lines().enumerate() {
        file.push_str(&format!("ENV V{number}={line}\nLABEL L{number} {line}\n"));
    }
    let quoted: String = text.chars().filter(|c| *c != '\n').collect();
    file.push_str(&format!("COPY <<E /f\n{text}\nE\nARG A=\"{quoted}\"\nWORKDIR {quoted}\n"));
    kiln_fuzz::lower(&file);
});
