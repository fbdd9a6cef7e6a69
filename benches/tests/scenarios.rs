//! Every scenario with every pool that can take part, tiny: what the suite assumes holds, and each scenario sees what it is
//! there to see. Nothing here depends on how fast the machine is.

use std::time::{Duration, Instant};

use benches::backend::Gauge;
use benches::backend::remote::{Distance, Incident, Remote};
use benches::contender::Options;
use benches::contenders::Entrant;
use benches::record::{MAX, OPS_PER_S, UNFAIRNESS};
use benches::scenario::cancel::{Cancel, EXCESS, USABLE};
use benches::scenario::churn::{Churn, OLDEST_MS};
use benches::scenario::door::{Kind, enter};
use benches::scenario::outage::{ATTEMPTS, FAILURES, Outage, RECOVERY_MS, SUCCESSES, Times};
use benches::scenario::saturation::Saturation;
use benches::scenario::spike::{OPEN, OPENED, OPENED_WHEN_SERVED, Spike};
use benches::scenario::{ERRORS, Scenario};

const MS: Duration = Duration::from_millis(1);

/// Everybody who suits a scenario, through both doors.
fn everybody(scenario: Scenario, mut test: impl FnMut(Entrant, Kind, &str)) {
    for kind in Kind::ALL {
        for entrant in kind.entrants().iter().filter(|entrant| scenario.suits(**entrant, kind)) {
            test(*entrant, kind, &format!("{} on {}", entrant.row().label, kind.label()));
        }
    }
}

const NEAR: Distance = Distance { connect: MS, query: MS };

#[test]
fn a_spike_serves_everybody_and_sees_every_connection() {
    everybody(Scenario::Spike, |entrant, kind, who| {
        let remote = Remote::new(NEAR);
        let gauge = Gauge::new();
        let visit = Spike { remote: &remote, clients: 8, watched: 20 * MS };
        let finding = enter(entrant, kind, &remote, &gauge, &Options::empty(4), visit).unwrap();
        let value = |metric| finding.value(metric).unwrap();
        assert_eq!((finding.ops, remote.uses()), (8, 8), "{who}");
        assert!(value(OPENED) >= value(OPENED_WHEN_SERVED) && value(OPENED_WHEN_SERVED) >= 1.0, "{who}");
        assert_eq!(value(OPENED), gauge.connects() as f64, "{who}");
        let (_, open) = finding.courses.iter().find(|(metric, _)| *metric == OPEN).unwrap();
        assert!(open.values.iter().copied().fold(0.0, f64::max) <= gauge.high_water() as f64, "{who}");
    });
}

#[test]
fn an_outage_is_seen_and_recovered_from() {
    let times = Times { before: 120 * MS, gone: 120 * MS, after: 20 * MS };
    everybody(Scenario::Outage, |entrant, kind, who| {
        let remote = Remote::new(NEAR);
        let options = Options { acquire_timeout: Some(50 * MS), ..Options::filled(2) };
        let visit = Outage { remote: &remote, clients: 4, times };
        let finding = enter(entrant, kind, &remote, &Gauge::new(), &options, visit).unwrap();
        assert!(finding.value(RECOVERY_MS).is_some(), "{who} did not recover");
        assert!(finding.value(ERRORS).unwrap() > 0.0, "{who}: nothing failed while the database was gone");
        let sum = |wanted| {
            let course = finding.courses.iter().find(|(metric, _)| *metric == wanted).unwrap();
            course.1.values.iter().sum::<f64>()
        };
        assert!(sum(SUCCESSES) > 0.0 && sum(FAILURES) > 0.0, "{who}");
        assert!(sum(ATTEMPTS) >= 1.0, "{who} connected again without an attempt");
    });
}

#[test]
fn short_lives_are_replaced_without_an_error() {
    everybody(Scenario::Churn, |entrant, kind, who| {
        let options = Options { max_lifetime: Some(50 * MS), ..Options::filled(2) };
        let remote = Remote::new(NEAR);
        let gauge = Gauge::new();
        let visit = Churn { remote: &remote, clients: 4, time: 300 * MS };
        let finding = enter(entrant, kind, &remote, &gauge, &options, visit).unwrap();
        assert_eq!(finding.value(ERRORS), Some(0.0), "{who}");
        assert!(gauge.connects() > 2, "{who} replaced no connection");
        assert_eq!(remote.count(Incident::Opened, Instant::now()), gauge.connects(), "{who}");
        assert!(finding.value(OLDEST_MS).unwrap() > 0.0, "{who}");
        assert!(!entrant.row().is_ours || gauge.high_water() <= 2, "{who} had {} open", gauge.high_water());
    });
}

#[test]
fn saturation_is_cut_into_steps_that_add_up() {
    everybody(Scenario::Saturation, |entrant, kind, who| {
        let (remote, gauge) = (Remote::new(NEAR), Gauge::new());
        let visit = Saturation { remote: &remote, clients: 4, time: 100 * MS, step: 20 * MS };
        let finding = enter(entrant, kind, &remote, &gauge, &Options::filled(2), visit).unwrap();
        let (_, rate) = finding.courses.iter().find(|(metric, _)| *metric == OPS_PER_S).unwrap();
        assert_eq!(rate.values.len(), 5, "{who}");
        let counted: f64 = rate.values.iter().map(|rate| rate * 0.02).sum();
        assert!(counted > 0.0 && counted <= finding.ops as f64, "{who}: {counted} of {}", finding.ops);
        assert!(finding.value(MAX).unwrap() > 0.0 && finding.value(UNFAIRNESS).unwrap() >= 1.0, "{who}");
        assert!(gauge.high_water() <= 2, "{who}");
    });
}

#[test]
fn after_a_storm_of_cancellations_all_connections_can_be_had_and_no_more() {
    everybody(Scenario::Cancel, |entrant, kind, who| {
        let remote = Remote::new(NEAR);
        let gauge = Gauge::new();
        let visit = Cancel { remote: &remote, clients: 4, size: 2, time: 50 * MS };
        let finding = enter(entrant, kind, &remote, &gauge, &Options::filled(2), visit).unwrap();
        assert_eq!((finding.value(USABLE), finding.value(EXCESS)), (Some(2.0), Some(0.0)), "{who}");
        assert!(finding.ops > 0, "{who}: nobody was served");
    });
}
