use std::time::Duration;

use super::*;
use crate::plan::{Balance, Pool, Protocol};

fn cluster(host: &str) -> Cluster {
    Cluster {
        name: format!("outbound|80||{host}").into(),
        host: host.into(),
        port: 80,
        subset: None,
        service_name: host.split('.').next().unwrap().into(),
        service_namespace: "shop".into(),
        protocol: Protocol::Http1,
        balancing: Balance::RoundRobin.into(),
        pool: Pool::default(),
        tls: None,
        proxy_protocol: None,
        outlier: None,
        health_check: None,
        origin: None,
        policy_origin: None,
    }
}

fn text(requests: &Requests) -> String {
    Family::ALL
        .into_iter()
        .flat_map(|family| (0..requests.pieces()).map(move |piece| requests.render(family, piece)))
        .collect()
}

#[test]
fn a_routed_request_carries_istios_labels() {
    let requests = Requests::new(&Workload::default());
    let cluster = cluster("cart.shop.svc.cluster.local");
    let record = Record {
        status: 200,
        cluster: Some(&cluster),
        duration: Duration::from_micros(1_500),
        bytes_received: 3,
        bytes_sent: 5_001,
        ..Record::default()
    };
    requests.count(&record);
    requests.count(&record);
    let text = text(&requests);
    let labels = "reporter=\"source\",source_workload=\"istio-ingressgateway\",\
        source_canonical_service=\"istio-ingressgateway\",source_canonical_revision=\"latest\",\
        source_workload_namespace=\"istio-system\",source_principal=\"unknown\",\
        source_app=\"istio-ingressgateway\",source_version=\"unknown\",source_cluster=\"Kubernetes\",\
        destination_workload=\"unknown\",destination_workload_namespace=\"unknown\",\
        destination_principal=\"unknown\",destination_app=\"unknown\",destination_version=\"unknown\",\
        destination_cluster=\"unknown\",destination_canonical_service=\"unknown\",\
        destination_canonical_revision=\"unknown\",\
        destination_service=\"cart.shop.svc.cluster.local\",destination_service_name=\"cart\",\
        destination_service_namespace=\"shop\",request_protocol=\"http\",response_code=\"200\",\
        grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"unknown\"";
    let lines: Vec<&str> = text.lines().collect();
    for line in [
        "# TYPE istio_requests_total counter".to_owned(),
        "# TYPE istio_request_duration_milliseconds histogram".to_owned(),
        format!("istio_requests_total{{{labels}}} 2"),
        format!("istio_request_duration_milliseconds_bucket{{{labels},le=\"1\"}} 0"),
        format!("istio_request_duration_milliseconds_bucket{{{labels},le=\"5\"}} 2"),
        format!("istio_request_duration_milliseconds_bucket{{{labels},le=\"+Inf\"}} 2"),
        format!("istio_request_duration_milliseconds_sum{{{labels}}} 3"),
        format!("istio_request_duration_milliseconds_count{{{labels}}} 2"),
        format!("istio_request_bytes_bucket{{{labels},le=\"1\"}} 0"),
        format!("istio_request_bytes_bucket{{{labels},le=\"5\"}} 2"),
        format!("istio_request_bytes_sum{{{labels}}} 6"),
        format!("istio_response_bytes_bucket{{{labels},le=\"5000\"}} 0"),
        format!("istio_response_bytes_bucket{{{labels},le=\"10000\"}} 2"),
    ] {
        assert!(lines.contains(&line.as_str()), "{line}\nis not in\n{text}");
    }
}

#[test]
fn hostile_traffic_adds_no_series() {
    let requests = Requests::new(&Workload::default());
    let cluster = cluster("cart.shop.svc.cluster.local");
    let send = |index: u32| {
        let (host, path) = (format!("h{index}.example"), format!("/p{index}?q={index}"));
        let base = Record {
            authority: Some(&host),
            path: Some(&path),
            method: Some(&path),
            user_agent: Some(&host),
            requested_server_name: Some(&host),
            ..Record::default()
        };
        requests.count(&Record {
            status: 404,
            flags: "NR",
            ..base
        });
        requests.count(&Record {
            status: 200,
            cluster: Some(&cluster),
            ..base
        });
        // An origin may answer anything.
        let odd = 600 + (index % 5_000) as u16;
        requests.count(&Record {
            status: odd,
            grpc: true,
            grpc_status: Some(odd),
            cluster: Some(&cluster),
            ..base
        });
    };
    send(0);
    assert_eq!(requests.series(), 3);
    (1..10_000).for_each(send);
    assert_eq!(requests.series(), 3);
    let text = text(&requests);
    assert!(
        text.contains("response_code=\"0\",grpc_response_status=\"unknown\""),
        "{text}"
    );
    assert!(!text.contains("example"));
}

#[test]
fn a_cluster_that_leaves_the_plan_takes_its_series_with_it() {
    let requests = Requests::new(&Workload::default());
    let (old, new) = (cluster("old.example"), cluster("new.example"));
    for cluster in [None, Some(&old), Some(&new)] {
        requests.count(&Record {
            status: 200,
            cluster,
            ..Record::default()
        });
    }
    requests.retain(&HashSet::from([&*new.name]));
    let text = text(&requests);
    assert_eq!(requests.series(), 2);
    assert!(text.contains("new.example") && text.contains("destination_service=\"unknown\""));
    assert!(!text.contains("old.example"));
}

#[test]
fn label_values_are_escaped() {
    let mut labels = String::new();
    push_label(&mut labels, "a", "q\"b\\n\nx");
    assert_eq!(labels, ",a=\"q\\\"b\\\\n\\nx\"");
}
