//! Counting, ejecting, returning; and that no race ejects one too many.

use std::sync::Barrier;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::upstream::Outcome::{Answered, ConnectFailed, Reset, TimedOut};
use crate::upstream::outlier::EjectionCounts;
use crate::upstream::sweep::Event;

impl Default for EndpointHealth {
    /// Of no cluster that ejects anybody.
    fn default() -> Self {
        let detector = Detector::new("c".into(), None, unbounded_channel().0);
        Self::new(SocketAddr::from(([10, 0, 0, 1], 80)), &detector)
    }
}

struct Rig {
    detector: Arc<Detector>,
    hosts: Vec<EndpointHealth>,
    events: UnboundedReceiver<Event>,
}

fn rules() -> Outlier {
    Outlier {
        max_ejection_percent: 100,
        ..Outlier::default()
    }
}

fn rig(hosts: usize, rules: &Outlier) -> Rig {
    let (sender, events) = unbounded_channel();
    let detector = Detector::new("c".into(), Some(rules), sender);
    detector.set_hosts(hosts);
    let host = |port: usize| {
        EndpointHealth::new(SocketAddr::from(([10, 0, 0, 1], port as u16)), &detector)
    };
    Rig {
        hosts: (0..hosts).map(host).collect(),
        detector,
        events,
    }
}

impl EndpointHealth {
    fn note_all(&self, outcomes: impl IntoIterator<Item = Outcome>) -> &Self {
        outcomes.into_iter().for_each(|outcome| self.note(outcome));
        self
    }

    fn is_ejected(&self) -> bool {
        self.view().ejection.is_some()
    }

    fn reason(&self) -> Option<Reason> {
        self.view().ejection.map(|ejection| ejection.reason)
    }
}

fn counts(rig: &Rig) -> EjectionCounts {
    rig.detector.counts()
}

#[test]
fn the_fifth_5xx_in_a_row_ejects_at_once_and_a_success_between_begins_anew() {
    let rig = rig(1, &rules());
    let host = &rig.hosts[0];
    host.note_all([Answered(500); 4]).note(Answered(404));
    host.note_all([Answered(599); 4]);
    assert!(host.is_usable());
    host.note(Answered(500));
    assert!(!host.is_usable());
    assert_eq!(host.reason(), Some(Reason::ServerErrors));
    assert_eq!(counts(&rig).ejected, 1);
}

#[test]
fn connect_failures_resets_and_timeouts_are_5xx_unless_split_off() {
    let outcomes = [ConnectFailed, Reset, TimedOut, Answered(503), ConnectFailed];
    let rig = rig(1, &rules());
    rig.hosts[0].note_all(outcomes);
    assert_eq!(rig.hosts[0].reason(), Some(Reason::ServerErrors));
}

#[test]
fn split_local_failures_have_a_counter_of_their_own_that_any_answer_resets() {
    let split = Outlier {
        local_origin: NonZeroU32::new(3),
        ..rules()
    };
    let rig = rig(2, &split);
    let [one, two] = &rig.hosts[..] else {
        unreachable!()
    };
    one.note_all([ConnectFailed, TimedOut, Answered(500), Reset, ConnectFailed]);
    assert!(!one.is_ejected(), "an answer came between");
    one.note(TimedOut);
    assert_eq!(one.reason(), Some(Reason::LocalOrigin));
    // Local failures are no 5xx here, nor do they break a row of them.
    two.note_all([Answered(500); 4]).note_all([Reset; 2]);
    assert!(!two.is_ejected());
    two.note(Answered(500));
    assert_eq!(two.reason(), Some(Reason::ServerErrors));
}

#[test]
fn gateway_errors_are_502_to_504_and_any_other_answer_begins_anew() {
    let gateway = Outlier {
        consecutive_5xx: None,
        consecutive_gateway: NonZeroU32::new(3),
        ..rules()
    };
    for (outcomes, ejects) in [
        ([Answered(502), Answered(503), Answered(504)], true),
        ([ConnectFailed, Reset, TimedOut], true),
        ([Answered(502), Answered(503), Answered(500)], false),
        ([Answered(501), Answered(505), Answered(500)], false),
    ] {
        let rig = rig(1, &gateway);
        rig.hosts[0].note_all(outcomes);
        let reason = ejects.then_some(Reason::GatewayErrors);
        assert_eq!(rig.hosts[0].reason(), reason, "{outcomes:?}");
    }
    let rig = rig(1, &gateway);
    rig.hosts[0]
        .note_all([Answered(502), Answered(503), Answered(500)])
        .note_all([Answered(502), Answered(503)]);
    assert!(!rig.hosts[0].is_ejected());
}

#[test]
fn without_rules_nothing_is_counted_and_nobody_ejected() {
    let rig = rig(1, &rules());
    rig.detector.set_rules(None);
    rig.hosts[0].note_all([ConnectFailed; 50]);
    assert!(rig.hosts[0].is_usable());
    rig.detector.set_rules(Some(&rules()));
    rig.hosts[0].note_all([ConnectFailed; 4]);
    assert!(rig.hosts[0].is_usable());
}

#[test]
fn gotcha_33_nine_hosts_with_the_default_percentage_eject_nobody_and_ten_eject_one() {
    for (hosts, ejected) in [(9, 0), (10, 1), (19, 1), (20, 2)] {
        let rig = rig(hosts, &Outlier::default());
        for host in &rig.hosts {
            host.note_all([Answered(500); 20]);
        }
        let counted = counts(&rig);
        assert_eq!(counted.ejected, ejected, "{hosts} hosts");
        let usable = rig.hosts.iter().filter(|host| host.is_usable());
        assert_eq!(usable.count(), hosts - ejected);
        // Four bouts each, but for the ejected ones, which had one and go on unseen.
        let denied = (hosts - ejected) * 4;
        assert_eq!(counted.overflows, denied as u64, "{hosts} hosts");
    }
}

#[test]
fn a_host_that_could_not_be_ejected_asks_again_after_the_next_bout() {
    let half = Outlier {
        max_ejection_percent: 50,
        ..rules()
    };
    let rig = rig(2, &half);
    rig.hosts[0].note_all([Answered(500); 5]);
    rig.hosts[1].note_all([Answered(500); 9]);
    assert!(!rig.hosts[1].is_ejected());
    assert!(rig.hosts[0].end_ejection());
    rig.hosts[1].note(Answered(500));
    assert!(rig.hosts[1].is_ejected());
}

#[test]
fn an_ejection_ends_at_the_first_sweep_after_its_time_and_the_next_lasts_longer() {
    let rules = rules();
    let rig = rig(1, &rules);
    let host = &rig.hosts[0];
    let start = clock::now();
    let mut now = start;
    for (streak, seconds) in [(1, 30), (2, 60), (3, 90)] {
        host.eject(Reason::ServerErrors, &rules, now);
        let at = |millis| now + Duration::from_millis(millis);
        // What the operator is told, up to the next sweep.
        let told = host.detector.return_of(now, streak, &rules);
        assert!((at(seconds * 1000)..=at(seconds * 1000) + rules.interval).contains(&told));
        assert!(!host.sweep(&rules, at(seconds * 1000 - 1_000)));
        assert!(!host.is_usable());
        assert!(host.sweep(&rules, at(seconds * 1000)), "{seconds} s");
        assert!(host.is_usable());
        now = at(seconds * 1000);
    }
    assert_eq!(counts(&rig).ejected, 0);
}

#[test]
fn each_sweep_of_a_healthy_host_shortens_its_next_ejection_again() {
    let rules = rules();
    let rig = rig(1, &rules);
    let host = &rig.hosts[0];
    let now = clock::now();
    for _ in 0..3 {
        host.eject(Reason::ServerErrors, &rules, now);
        host.end_ejection();
    }
    assert_eq!(host.streak.load(Ordering::Relaxed), 3);
    assert!(host.is_recovering());
    for left in [2, 1, 0, 0] {
        assert!(!host.sweep(&rules, now));
        assert_eq!(host.streak.load(Ordering::Relaxed), left);
    }
    assert!(!host.is_recovering());
}

#[test]
fn the_streak_stops_growing_where_the_time_does() {
    let rules = rules();
    let rig = rig(1, &rules);
    let now = clock::now();
    for _ in 0..50 {
        rig.hosts[0].eject(Reason::ServerErrors, &rules, now);
        rig.hosts[0].end_ejection();
    }
    // 11 x 30 s: one base time beyond the limit of 300 s, as in Envoy.
    assert_eq!(rig.hosts[0].streak.load(Ordering::Relaxed), 11);
}

#[test]
fn what_fails_after_the_ejection_does_not_count_once_it_has_ended() {
    let rig = rig(1, &rules());
    let host = &rig.hosts[0];
    host.note_all([Answered(500); 9]);
    assert!(host.end_ejection());
    host.note(Answered(500));
    assert!(host.is_usable());
}

#[test]
fn a_host_that_leaves_gives_its_place_back_and_is_never_ejected_again() {
    let rig = rig(2, &rules());
    let host = &rig.hosts[0];
    host.note_all([Answered(500); 5]);
    host.retire();
    host.retire();
    assert_eq!(counts(&rig).ejected, 0);
    host.note_all([Answered(500); 50]);
    assert!(!host.end_ejection());
    assert_eq!(counts(&rig).ejected, 0);
}

#[test]
fn gotcha_34_without_a_minimum_all_may_be_out() {
    let rig = rig(3, &rules());
    for host in &rig.hosts {
        host.note_all([Answered(500); 5]);
    }
    assert!(rig.hosts.iter().all(|host| !host.is_usable()));
}

#[test]
fn the_event_says_who_why_and_for_how_long() {
    let mut rig = rig(1, &rules());
    rig.hosts[0].note_all([Answered(500); 5]);
    let Event::Ejected(event) = rig.events.try_recv().unwrap() else {
        panic!("an ejection");
    };
    assert_eq!(event.reason, Reason::ServerErrors);
    assert_eq!((&*event.cluster, event.addr), ("c", rig.hosts[0].addr));
    // The base time, and at most one interval until the sweep comes by.
    assert!(event.lasts >= Duration::from_secs(30) - Duration::from_millis(1));
    assert!(event.lasts <= Duration::from_secs(40));
    assert!(rig.events.try_recv().is_err());
}

/// Threads fail on all hosts at once while another gives hosts back and one takes hosts away.
#[test]
fn no_race_ejects_more_than_the_limit_or_loses_count() {
    const HOSTS: usize = 20;
    const LIMIT: usize = 4;
    let rules = Outlier {
        max_ejection_percent: 20,
        consecutive_5xx: NonZeroU32::new(1),
        ..rules()
    };
    for round in 0..20 {
        let mut rig = rig(HOSTS, &rules);
        let start = Barrier::new(5);
        let (hosts, detector) = (&rig.hosts, &rig.detector);
        let ended = std::thread::scope(|scope| {
            for thread in 0..3 {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    for turn in 0..2_000 {
                        hosts[(turn * 7 + thread * 3) % HOSTS].note(Answered(500));
                        assert!(detector.counts().ejected <= LIMIT);
                    }
                });
            }
            let returning = scope.spawn(|| {
                start.wait();
                let mut ended = 0;
                for turn in 0..2_000 {
                    ended += usize::from(hosts[turn % HOSTS].end_ejection());
                }
                ended
            });
            scope.spawn(|| {
                start.wait();
                hosts[round].retire();
            });
            returning.join().unwrap()
        });
        let out = hosts
            .iter()
            .enumerate()
            .filter(|(index, host)| *index != round && host.is_ejected());
        let out = out.count();
        assert_eq!(detector.counts().ejected, out);
        let total = detector.counts().total[0].1 as usize;
        // The one that left may have been out when it did.
        assert!((ended + out..=ended + out + 1).contains(&total));
        rig.events.close();
        let mut told = 0;
        while rig.events.try_recv().is_ok() {
            told += 1;
        }
        assert_eq!(told, total);
    }
}

#[test]
fn probes_and_ejections_keep_an_endpoint_out_each_on_its_own() {
    let rig = rig(2, &rules());
    let host = &rig.hosts[0];
    let why = || Some(Arc::new("answered 500".to_owned()));
    assert!(host.set_failure(why()));
    assert!(!host.set_failure(why()), "no news");
    assert!(!host.is_usable());
    host.note_all([Answered(500); 5]);
    assert_eq!(host.view().failing, why());
    assert!(host.set_failure(None));
    assert!(!host.is_usable(), "it is still ejected");
    assert!(host.end_ejection());
    assert!(host.is_usable());
    assert!(host.view().is_healthy());
    host.retire();
    assert!(!host.set_failure(why()), "it has left");
}
