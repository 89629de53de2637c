use serde_json::json;

use super::*;

#[test]
fn functions_are_those_of_bake() {
    for (name, arguments, expected) in [
        ("upper", json!(["a"]), json!("A")),
        ("replace", json!(["a/b/c", "/", "-"]), json!("a-b-c")),
        ("split", json!([",", "a,b"]), json!(["a", "b"])),
        ("join", json!([",", ["a", 1]]), json!("a,1")),
        ("format", json!(["%s:%03d%%", "a", 7]), json!("a:007%")),
        (
            "format",
            json!(["%5.2f|%-3s|%x|%t|%.1s", 1.5, "a", 255, true, "xyz"]),
            json!(" 1.50|a  |ff|true|x"),
        ),
        ("formatlist", json!(["%s-%s", "x", ["a", "b"]]), json!(["x-a", "x-b"])),
        ("substr", json!(["abcdef", -3, 2]), json!("de")),
        ("trimprefix", json!(["v1", "v"]), json!("1")),
        ("sanitize", json!(["a.b/c"]), json!("a_b_c")),
        ("regex_replace", json!(["a1b2", "[0-9]", "x"]), json!("axbx")),
        ("regex", json!(["(\\d+)\\.(\\d+)", "v1.2"]), json!(["1", "2"])),
        ("regexall", json!(["[a-z]", "a1b"]), json!(["a", "b"])),
        ("regexall", json!(["(?P<n>[0-9])", "a1b2"]), json!([{"n": "1"}, {"n": "2"}])),
        ("regex_replace", json!(["k=v, l=w", "(\\w)=(\\w)", "$2:${1}s"]), json!("v:ks, w:ls")),
        ("equal", json!(["", ""]), json!(true)),
        ("notequal", json!(["", "x"]), json!(true)),
        ("and", json!([true, false]), json!(false)),
        ("add", json!([1, 2]), json!(3)),
        ("modulo", json!([7, 4]), json!(3)),
        ("range", json!([3]), json!([0, 1, 2])),
        ("concat", json!([["a"], ["b"]]), json!(["a", "b"])),
        ("contains", json!([["a"], "a"]), json!(true)),
        ("compact", json!([["a", "", null]]), json!(["a"])),
        ("distinct", json!([["a", "a"]]), json!(["a"])),
        ("flatten", json!([["a", ["b", ["c"]]]]), json!(["a", "b", "c"])),
        ("merge", json!([{"a": 1}, {"a": 2, "b": 3}]), json!({"a": 2, "b": 3})),
        ("keys", json!([{"b": 1, "a": 2}]), json!(["a", "b"])),
        ("lookup", json!([{"a": 1}, "b", 2]), json!(2)),
        ("element", json!([["a", "b"], 3]), json!("b")),
        ("slice", json!([["a", "b", "c"], 1, 3]), json!(["b", "c"])),
        ("coalesce", json!(["", null, "x"]), json!("x")),
        ("base64decode", json!(["YQ=="]), json!("a")),
        ("md5", json!(["a"]), json!("0cc175b9c0f1b6a831c399e269772661")),
        ("sha1", json!(["a"]), json!("86f7e437faa5a7fce15d1ddcb9eaeaea377667b8")),
        ("csvdecode", json!(["a,b\n1,\"x,y\"\n"]), json!([{"a": "1", "b": "x,y"}])),
        ("semvercmp", json!(["1.2.3", ">= 1.2, <2"]), json!(true)),
        ("semvercmp", json!(["1.2.3-rc.10", "> 1.2.3-rc.9"]), json!(true)),
        ("semvercmp", json!(["v1.2.3-rc.1", ">=1.2.3"]), json!(false)),
        ("timeadd", json!(["2020-01-01T00:00:00Z", "-1h30m"]), json!("2019-12-31T22:30:00Z")),
        ("setproduct", json!([["a"], ["b", "c"]]), json!([["a", "b"], ["a", "c"]])),
        ("setsymmetricdifference", json!([["a", "b"], ["b", "c"]]), json!(["a", "c"])),
        ("sethaselement", json!([["a"], "a"]), json!(true)),
        ("indexof", json!([["a", "b"], "b"]), json!(1)),
        ("log", json!([8, 2]), json!(3)),
        ("jsonencode", json!([{"a": [1]}]), json!("{\"a\":[1]}")),
        ("formatdate", json!(["YYYY-MM-DD'T'hh", "2024-01-31T12:00:00Z"]), json!("2024-01-31T12")),
        (
            "unixtimestampparse",
            json!([1_690_328_596]),
            json!({
                "day": 25, "hour": 23, "iso_week": 30, "iso_year": 2023, "minute": 43,
                "month": 7, "month_name": "July", "rfc3339": "2023-07-25T23:43:16Z",
                "second": 16, "weekday": 2, "weekday_name": "Tuesday", "year": 2023,
                "year_day": 206,
            }),
        ),
        ("cidrhost", json!(["10.0.0.0/8", 2]), json!("10.0.0.2")),
        ("length", json!([["a"]]), json!(1)),
        ("min", json!([3, 1]), json!(1)),
    ] {
        let arguments = arguments.as_array().unwrap();
        assert_eq!(call(name, arguments).unwrap(), expected, "{name}");
    }
    for (name, arguments, word) in [
        ("frob", json!([]), "no such function"),
        ("upper", json!([]), "more than 0 arguments"),
        ("divide", json!([1, 0]), "by zero"),
        ("range", json!([1e9]), "too many"),
        ("replace", json!(["x".repeat(10_000), "", "y".repeat(10_000)]), "too long"),
        ("join", json!(["x".repeat(10_000), vec![""; 10_000]]), "too long"),
        ("split", json!(["", "x".repeat(20_000)]), "too long"),
        ("regex_replace", json!(["x".repeat(10_000), "x", "y".repeat(10_000)]), "too long"),
        ("regex_replace", json!(["x".repeat(10_000), ".*", "$0".repeat(10_000)]), "too long"),
        ("regexall", json!(["x", "x".repeat(20_000)]), "too long"),
        ("regexall", json!(["(((((.*)))))", "x".repeat(1_000_000)]), "too long"),
        ("formatlist", json!(["%s", "x".repeat(100_000), vec![1; 100]]), "too long"),
        ("setproduct", json!([["x".repeat(1_000_000)], vec![1; 1000]]), "too many"),
        ("regex", json!(["(", ""]), "("),
        ("element", json!([["a"], -1]), "no index"),
    ] {
        let error = call(name, arguments.as_array().unwrap()).unwrap_err().to_string();
        assert!(error.contains(word), "{name}: {error}");
    }
}

#[test]
fn ranges_end() {
    // A step of one changes nothing at this size.
    let far = call("range", &[json!(1e17), json!(1e17 + 64.0)]).unwrap();
    assert!(far.as_array().unwrap().len() <= 10_001);
    assert_eq!(call("range", &[json!(3), json!(0), json!(-2)]).unwrap(), json!([3, 1]));
}
