//! Connections live across plans, and through a drain as long as it lasts.

use super::*;

#[test]
fn a_swap_leads_new_connections_elsewhere_and_leaves_the_open_ones_alone() {
    let (one, two) = (ByteOrigin::echo("one"), ByteOrigin::echo("two"));
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&[TCP])),
        ("routes.yaml", routes("r", "'*'", &all_to("one.test"))),
        ("one.yaml", service("one.test", &[one.port])),
        ("two.yaml", service("two.test", &[two.port])),
    ])
    .port(9000)
    .ready();
    let addr = gateway.addr_of(9000);
    let mut old = Wire::open(addr);
    assert_eq!(old.line(), "one");
    gateway.write("routes.yaml", &routes("r", "'*'", &all_to("two.test")));
    await_until("new connections go to the new origin", || {
        (Wire::open(addr).line() == "two").then_some(())
    });
    old.say("still here\n");
    assert_eq!(old.line(), "still here");
    // Not even the end of its port ends it.
    std::fs::remove_file(gateway.manifests.join("routes.yaml")).unwrap();
    await_until("the port is closed", || {
        std::net::TcpStream::connect(addr).err().map(drop)
    });
    old.say("and still\n");
    assert_eq!(old.line(), "and still");
}

#[test]
fn a_drain_waits_for_connections_and_ends_with_the_last() {
    let origin = ByteOrigin::echo("one");
    let settings = "  drain: {delay: 0.1s, deadline: 30s}\n";
    let mut gateway = start(&[origin.port], "").settings(settings).ready();
    let addr = gateway.addr_of(9000);
    let mut wire = Wire::open(addr);
    assert_eq!(wire.line(), "one");
    gateway.signal("TERM");
    await_until("the port is closed", || {
        std::net::TcpStream::connect(addr).err().map(drop)
    });
    wire.say("still here\n");
    assert_eq!(wire.line(), "still here");
    assert!(gateway.is_running());
    drop(wire);
    assert!(gateway.await_exit().success());
}

#[test]
fn a_connection_that_outlives_the_drain_is_closed_and_recorded() {
    let origin = ByteOrigin::echo("one");
    let settings = "  drain: {delay: 0.1s, deadline: 0.3s}\n";
    let mut gateway = start(&[origin.port], "").settings(settings).ready();
    let mut wire = Wire::open(gateway.addr_of(9000));
    assert_eq!(wire.line(), "one");
    gateway.signal("TERM");
    assert_eq!(wire.rest(), "");
    gateway.await_exit();
    gateway.await_log("outbound|1||origin.test");
}
