//! Every actor of a running network is killed by a panic, one after another: it comes back, the
//! network goes on, and nothing that was acknowledged is lost or done twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use forecastd::commands::dev::{Network, Options, Summary};
use forecastd::config::Config;
use forecastd::views;
use forecastd_actors::events::Event;
use forecastd_store::{ResultRecord, RoundRecord};

use crate::support::until;

fn scored(network: &Network) -> usize {
    let store = &network.validator().unwrap().node().store;
    store
        .scan::<ResultRecord>(..)
        .filter(|row| row.as_ref().is_ok_and(|(_, result)| result.void_reason.is_none()))
        .count()
}

/// Kills every actor of every node once and returns how many there were.
async fn kill_everybody(network: &Network) -> usize {
    let mut killed = 0;
    for (member, daemon) in &network.daemons {
        let node = daemon.node();
        for actor in node.vitals.snapshot() {
            if actor.name == "root" {
                continue;
            }
            let panics = |name: &str| {
                let all = node.vitals.snapshot();
                all.into_iter().find(|vitals| vitals.name == name).map_or(0, |v| v.panics)
            };
            node.faults.arm(&actor.name);
            let what = format!("{} of {} panics and is restarted", actor.name, member.name);
            until(&what, || panics(&actor.name) > actor.panics).await;
            killed += 1;
        }
    }
    killed
}

#[test]
fn actors_die_alone_and_come_back() {
    actix_rt::System::new().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut base = Config::load(&root.join("config.toml")).unwrap().config;
        base.validator.settle_delay = Duration::from_mins(5);
        for model in &mut base.model {
            model.checkpoint = model.checkpoint.take().map(|path| root.join(path));
        }
        let options = Options { speed: 900.0, seed: 1, data_dir: directory.path().to_owned() };
        let network = Network::start(&base, options).await.unwrap();
        let mut events = network.events.subscribe();
        until("the first round", || {
            let store = &network.validator().unwrap().node().store;
            store.count::<RoundRecord>().unwrap() > 0
        })
        .await;

        let killed = kill_everybody(&network).await;
        // Validator: candles, metagraph, evaluator, weights, query, four feeds, housekeeper; three
        // miners: candles, columns, metagraph, forecaster, responder, four feeds, housekeeper.
        assert_eq!(killed, 10 + 3 * 10);
        until("the first scores", || scored(&network) > 0).await;
        // Once more where it hurts: with rounds that are due, answered and paid for.
        assert_eq!(kill_everybody(&network).await, killed);
        let before = scored(&network);
        until("more scores after all that", || scored(&network) > before + 2).await;

        let validator = network.validator().unwrap().node();
        let mut known: BTreeSet<String> = BTreeSet::new();
        for row in validator.store.scan::<RoundRecord>(..) {
            known.insert(row.unwrap().1.round_id);
        }
        let mut results: BTreeMap<String, usize> = BTreeMap::new();
        for row in validator.store.scan::<ResultRecord>(..) {
            let result = row.unwrap().1;
            known.insert(result.round_id.clone());
            *results.entry(result.round_id).or_default() += 1;
        }
        assert!(results.values().all(|count| *count == 1), "scored twice: {results:?}");
        let mut told: BTreeMap<String, usize> = BTreeMap::new();
        while let Ok(line) = events.try_recv() {
            match &line.event {
                Event::RoundOpened { round, .. } => {
                    assert!(known.contains(round), "round {round} was opened and is lost");
                }
                Event::RoundScored { round, .. } => {
                    *told.entry(round.clone()).or_default() += 1;
                }
                _ => {}
            }
        }
        for round in told.keys() {
            assert!(results.contains_key(round), "round {round} was scored and is lost");
        }
        let replays = views::replay(&validator.store, None).unwrap();
        assert!(replays.iter().all(|replay| replay.verdict != "different"), "{replays:?}");
        let summary = Summary::collect(&network).unwrap();
        assert_eq!(summary.unsettled, 0, "{summary}");
        assert!(summary.restarts >= 2 * killed as u64, "{summary}");
        assert!(network.stop().await, "a graceful stop");
    });
}
