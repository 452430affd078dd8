//! `explain` and traffic are one decision: for generated requests the running gateway does what it
//! says it would do.

use super::harness::*;

/// A sequence that is the same on every run and differs enough.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn of<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.roll(items.len())]
    }
}

const HOSTS: [&str; 5] = [
    "a.example.com",
    "b.example.com",
    "x.y.example.com",
    "other.test",
    "A.Example.COM:8080",
];
const PATHS: [&str; 10] = [
    "/",
    "/api",
    "/api/v1",
    "/API/v1",
    "/apiary",
    "/item/7",
    "/item/x",
    "/a/../api",
    "/api%2Fv1",
    "/x//y",
];
const QUERIES: [&str; 4] = ["", "?v=1", "?v=2&w", "?w=%31"];
const HEADERS: [&str; 4] = ["", "x-user: jason", "x-user: Jason", "X-User: anna"];

/// Some rules of every shape, each answering with its own name.
fn rules(dice: &mut Dice, prefix: &str, count: usize) -> String {
    let mut text = String::new();
    for n in 0..count {
        let uri = dice.of(&[
            "",
            "uri: {exact: /api}",
            "uri: {prefix: /api/}",
            "uri: {prefix: /api}, ignoreUriCase: true",
            "uri: {regex: \"/item/[0-9]+\"}",
            "uri: {prefix: /x}",
        ]);
        let header = dice.of(&[
            "",
            "headers: {x-user: {exact: jason}}",
            "withoutHeaders: {x-user: {}}",
        ]);
        let query = dice.of(&[
            "",
            "queryParams: {v: {exact: \"1\"}}",
            "queryParams: {w: {}}",
        ]);
        let fields: Vec<&str> = [uri, header, query]
            .into_iter()
            .filter(|field| !field.is_empty())
            .collect();
        let conditions = if fields.is_empty() {
            String::new()
        } else {
            format!("      match: [{{{}}}]\n", fields.join(", "))
        };
        text.push_str(&format!(
            "    - name: {prefix}{n}\n{conditions}      directResponse: {{status: 200, body: {{string: {prefix}{n}}}}}\n"
        ));
    }
    text
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn the_gateway_does_what_explain_says_for_generated_requests() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*.example.com"])),
        (
            "a.yaml",
            routes_yaml("a", &["a.example.com"], &rules(&mut dice, "a", 9)),
        ),
        (
            "also-a.yaml",
            routes_yaml("also-a", &["a.example.com"], &rules(&mut dice, "also", 5)),
        ),
        (
            "b.yaml",
            routes_yaml("b", &["b.example.com"], &rules(&mut dice, "b", 4)),
        ),
        (
            "rest.yaml",
            routes_yaml("rest", &["*.example.com"], &rules(&mut dice, "rest", 6)),
        ),
    ])
    .ready();
    let port = gateway.addr().port();
    let mut routed = 0;
    for _ in 0..400 {
        let (host, header) = (dice.of(&HOSTS), dice.of(&HEADERS));
        let target = format!("{}{}", dice.of(&PATHS), dice.of(&QUERIES));
        let lines: Vec<&str> = if header.is_empty() {
            vec![]
        } else {
            vec![header]
        };
        let answer = gateway.client().get(host, &target, &lines);
        let name = host.split(':').next().unwrap();
        let mut query = format!(
            "/explain.json?url={}",
            encoded(&format!("http://{name}:{port}{target}"))
        );
        if !header.is_empty() {
            query.push_str(&format!("&header={}", encoded(header)));
        }
        let explained: serde_json::Value =
            serde_json::from_str(&gateway.admin(&query).body).unwrap();
        match explained["rule"]["name"].as_str() {
            Some(rule) => {
                routed += 1;
                assert_eq!(
                    (answer.status, answer.body.as_str()),
                    (200, rule),
                    "{host} {target} {header}"
                );
            }
            None => assert_eq!(answer.status, 404, "{host} {target} {header}: {explained}"),
        }
    }
    assert!(
        (100..400).contains(&routed),
        "{routed} of 400 requests found a rule"
    );
}
