//! The registry's work grows with what is asked, not with its square.

use super::*;

#[test]
fn thousands_of_services_and_destinations_each_find_their_own() {
    const COUNT: usize = 5_000;
    let mut yaml = String::new();
    for index in 0..COUNT {
        let (a, b) = (index / 250, index % 250);
        yaml += &format!(
            "apiVersion: v1
kind: Service
metadata: {{name: s{index}}}
spec: {{clusterIP: None, selector: {{app: s{index}}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: p{index}, labels: {{app: s{index}, version: v1}}}}
status: {{phase: Running, podIP: 10.0.{a}.{b}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: r{index}}}
spec: {{host: s{index}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}
---
"
        );
    }
    let hosts: Vec<String> = (0..COUNT).map(|index| format!("s{index}")).collect();
    let asks: Vec<_> = hosts.iter().map(|host| ask(host).subset("v1")).collect();
    let answers = answer(&yaml, &asks);
    assert_eq!(answers.clusters.len(), COUNT);
    assert_eq!(answers.addresses(4_321), ["10.0.17.71:80"]);
    assert_eq!(answers.findings, []);
}
