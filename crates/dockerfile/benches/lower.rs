//! The time for a Dockerfile of 2,000 lines: `cargo bench -p dockerfile`. The aim is 10 ms for
//! parsing and lowering together.

use std::hint::black_box;
use std::time::{Duration, Instant};

use dockerfile::{Dockerfile, Images, LowerRequest, Lowering};
use graph::SourceFile;
use oci::Platform;

/// Stages of 100 lines, each on the one before, with variables in most of them.
fn text() -> String {
    let mut text = String::from("ARG VERSION=1.2.3\nFROM scratch AS stage0\n");
    for stage in 1..20 {
        for line in 0..12 {
            text.push_str(&format!(
                "ARG A{line}=v{stage}\nENV B{line}=${{A{line}:-x}} C{line}=\"$B{line} ${{VERSION#1.}}\"\n\
                 RUN --mount=type=cache,target=/c{line} echo $B{line} \\\n  && make -C /src \\\n  # why\n  && true\n\
                 COPY --chown=1:1 a{line} b{line}/* /d$A{line}/\nLABEL l{line}=$C{line}\n"
            ));
        }
        text.push_str(&format!("WORKDIR /w$A1\nFROM stage{} AS stage{stage}\n", stage - 1));
    }
    text.push_str("COPY --from=stage1 / /\n");
    text
}

fn main() {
    let text = text();
    let request = LowerRequest::new(Platform::new("linux", "amd64", ""));
    let mut parsing: Vec<Duration> = Vec::new();
    let mut lowering: Vec<Duration> = Vec::new();
    for _ in 0..50 {
        let source = SourceFile { name: "Dockerfile".into(), text: text.as_str().into() };
        let start = Instant::now();
        let file = black_box(Dockerfile::parse(source).expect("a Dockerfile"));
        parsing.push(start.elapsed());
        let start = Instant::now();
        let lowered = file.lower(&request, &Images::new()).expect("a graph");
        lowering.push(start.elapsed());
        assert!(matches!(black_box(lowered), Lowering::Done(_)), "it needs no image");
    }
    for (name, mut times) in [("parse", parsing), ("lower", lowering)] {
        times.sort();
        let (best, middle, worst) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        println!(
            "{name}: {} lines, median {middle:?}, {best:?} to {worst:?}",
            text.lines().count()
        );
    }
}
