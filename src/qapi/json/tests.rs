//! What comes out of a stream of bytes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Limits, Stream, from_text};
use crate::qapi::Error;

fn values(bytes: &[u8]) -> Vec<Result<Value, Error>> {
    let mut found = Vec::new();
    Stream::default().feed(bytes, |result| found.push(result));
    found
}

/// What is found in a line, errors as their text without the common start.
fn shown(line: &[u8]) -> Vec<String> {
    let line = [line, b"\n"].concat();
    values(&line)
        .into_iter()
        .map(|result| match result {
            Ok(value) => value.to_string(),
            Err(error) => error.desc.trim_start_matches("JSON parse error, ").to_owned(),
        })
        .collect()
}

#[test]
fn values_need_no_line_between_them() {
    assert_eq!(
        shown(b"{'a':1}{\"b\":[2,{}]}true 5"),
        [r#"{"a":1}"#, r#"{"b":[2,{}]}"#, "true", "5"]
    );
    assert_eq!(shown(b"'it''s'"), [r#""it""#, r#""s""#]);
}

#[test]
fn a_number_or_keyword_ends_with_what_follows() {
    assert!(values(b"12").is_empty());
    assert_eq!(shown(b"1.5e+3x"), ["1500.0", "invalid keyword 'x'"]);
    assert_eq!(shown(b"-0"), ["0"]);
    assert_eq!(shown(b"18446744073709551615"), ["18446744073709551615"]);
    assert_eq!(shown(b"99999999999999999999"), ["1e+20"]);
    assert_eq!(shown(b"1e400"), ["number '1e400' is out of range"]);
}

/// Texts as QEMU 7.2 was seen to give them.
#[test]
fn mistakes_have_the_texts_that_clients_know() {
    for (line, expected) in [
        (&br#"{"a" 1}"#[..], "missing : in object pair"),
        (br#"{"a":1 "b":2}"#, "expected separator in dict"),
        (b"[1 2]", "expected separator in list"),
        (b"{1:2}", "key is not a string in object"),
        (br#"{"a":1,"a":2}"#, "duplicate key"),
        (br#"{"a":}"#, "expecting value"),
        (br#"{"a":1,}"#, "expecting value"),
        (br#"{"a"}"#, "missing : in object pair"),
        (b"[1,]", "expecting value"),
        (b"[,]", "expecting value"),
        (b"}", "expecting value"),
        (b"]", "expecting value"),
        (b"[}", "expecting value"),
        (b"{]", "expecting value"),
        (b":", "expecting value"),
        (b"nul", "invalid keyword 'nul'"),
        (b"truefalse", "invalid keyword 'truefalse'"),
        (b"01", "stray '01'"),
        (b"-", "stray '-\n'"),
        (b"1.", "stray '1.\n'"),
        (b"1e", "stray '1e\n'"),
        (b"-x", "stray '-x'"),
        (b"+1", "stray '+'"),
        (b"%d", "stray '%'"),
        (b"TRUE", "stray 'T'"),
        (b"\xff", "stray '\u{fffd}'"),
        (b"\x01", "stray '\u{1}'"),
        (b"\"a\tb\"", "stray '\"a\t'"),
        (b"\"a\\\"", "stray '\"a\\\"\n'"),
        (br#""\x""#, "invalid escape sequence in string"),
        (br#""\u12""#, "\\u12 is not a valid Unicode character"),
        (br#""\ud800""#, "\\ud800 is not a valid Unicode character"),
        (br#""\ud800\u0041""#, "\\ud800 is not a valid Unicode character"),
        (br#""\uffff""#, "\\uffff is not a valid Unicode character"),
        (br#""\ufdd0""#, "\\ufdd0 is not a valid Unicode character"),
        (br#""\ud83f\udffe""#, "\\ud83f\\udffe is not a valid Unicode character"),
        (b"\"\xef\xbf\xbf\"", "invalid UTF-8 sequence in string"),
        (b"\"\xef\xb7\x90\"", "invalid UTF-8 sequence in string"),
        (b"\"\xf0\x9f\xbf\xbe\"", "invalid UTF-8 sequence in string"),
        (b"\"\xc3(\"", "invalid UTF-8 sequence in string"),
        (b"\"\xf4\x90\x80\x80\"", "invalid UTF-8 sequence in string"),
    ] {
        assert_eq!(shown(line), [expected], "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn strings_may_hold_escapes_and_any_character() {
    assert_eq!(
        values(b"\"\\u0041\\ud83d\\ude00\\u0000\\/\\b\\f\\n\\r\\t\\\\\\'\\\"\xc3\xa9\""),
        [Ok(json!("A\u{1f600}\0/\u{8}\u{c}\n\r\t\\'\"\u{e9}"))]
    );
}

#[test]
fn a_text_holds_one_value() {
    assert_eq!(from_text(" {'driver': 'pvpanic'} "), Ok(json!({"driver": "pvpanic"})));
    assert_eq!(from_text("-12"), Ok(json!(-12)));
    assert_eq!(from_text("true"), Ok(json!(true)));
    for (text, expected) in [
        ("", "Expecting a JSON value"),
        ("{} {}", "Expecting at most one JSON value"),
        ("{'a':1} 1", "Expecting at most one JSON value"),
        ("{'a':1", "JSON parse error, premature EOI"),
        ("{", "JSON parse error, premature EOI"),
        ("{'a':'pv", "JSON parse error, stray ''pv'"),
        ("{'a':1}-", "JSON parse error, stray '-'"),
        ("{'a':tru", "JSON parse error, invalid keyword 'tru'"),
        ("{'a':1}}", "JSON parse error, expecting value"),
    ] {
        assert_eq!(from_text(text), Err(Error::generic(expected)), "{text}");
    }
}

#[test]
fn after_bad_input_the_stream_goes_on() {
    let mut shown_all = Vec::new();
    for line in [
        &b"@{}"[..],
        b"\"abc\n{}",
        b"\"unfinished \xff{}",
        b"{\"execute\": \n@\n{}",
        b"blah\n{}",
    ] {
        shown_all.push(shown(line).last().cloned());
    }
    assert_eq!(shown_all, vec![Some("{}".to_owned()); 5]);
}

#[test]
fn values_beyond_the_limits_are_dropped_with_their_line() {
    let limits = Limits {
        bytes: 16,
        tokens: 8,
        depth: 3,
    };
    let error = |what: &str| Err(Error::generic(format!("JSON {what} limit exceeded")));
    for (bytes, what) in [
        (&b"[[[[1]]]]\n{}"[..], "nesting depth"),
        (b"[1,2,3,4,5]\n{}", "token count"),
        (b"'0123456789abcdef'\n{}", "token size"),
        (b"['0123456','0123456']\n{}", "token size"),
        (b"['0123456','0123456']\xff{}", "token size"),
    ] {
        let mut found = Vec::new();
        Stream::new(limits).feed(bytes, |result| found.push(result));
        assert_eq!(
            found,
            [error(what), Ok(json!({}))],
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn a_value_may_be_as_deep_as_the_limit() {
    let deep = [vec![b'['; 1024], vec![b']'; 1024]].concat();
    assert!(values(&deep)[0].is_ok());
    let deeper = [vec![b'['; 1025], vec![b']'; 1025]].concat();
    assert_eq!(
        values(&deeper),
        [Err(Error::generic("JSON nesting depth limit exceeded"))]
    );
}

/// What a string may hold: anything but the code points that Unicode keeps for itself.
fn text() -> impl Strategy<Value = String> {
    let kept = |c: char| matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
    any::<String>().prop_map(move |text| text.replace(kept, ""))
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_we_write_is_read_back(value in arbitrary_json()) {
        let mut text = crate::qapi::visit::encoded(&value);
        text.push(b'\n');
        prop_assert_eq!(values(&text), [Ok(value)]);
    }

    #[test]
    fn it_makes_no_difference_how_bytes_are_split(
        bytes in prop::collection::vec(prop::sample::select(&b"{}[]:,\"'\\ \n\t-0159.eE+truefalsn@\xff\x80u"[..]), 0..64),
        size in 1usize..8,
    ) {
        let mut stream = Stream::default();
        let mut found = Vec::new();
        for chunk in bytes.chunks(size) {
            stream.feed(chunk, |result| found.push(result));
        }
        prop_assert_eq!(found, values(&bytes));
    }

    #[test]
    fn any_bytes_leave_the_stream_usable(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let mut stream = Stream::default();
        stream.feed(&bytes, |_| {});
        // A control character is a mistake anywhere, and what follows it starts anew.
        let mut found = Vec::new();
        stream.feed(b"\x01\n{'execute':'stop'}", |result| found.push(result));
        prop_assert_eq!(found.pop(), Some(Ok(json!({"execute": "stop"}))));
    }
}
