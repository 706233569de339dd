use proptest::prelude::*;

use super::*;
use crate::ema::EmaEntry;

fn key(byte: u8) -> Hotkey {
    Hotkey::from_bytes([byte; 32])
}

fn closes() -> Vec<f64> {
    (0..10).map(|step| 40_000.0 + f64::from(step) * 7.5).collect()
}

fn offset(by: f64) -> Vec<f64> {
    closes().iter().map(|close| close + by).collect()
}

fn input(answers: Vec<(Hotkey, Vec<f64>)>, members: &[u8]) -> RoundInput {
    RoundInput {
        stream: StreamId("BTCUSD-5m".to_owned()),
        start_ms: 0,
        horizon: 10,
        realised: closes(),
        answers,
        members: members.iter().map(|byte| (key(*byte), 5)).collect(),
    }
}

fn prior(values: &[(u8, f64)]) -> EmaState {
    let entry = |value| EmaEntry { value, rounds: 1, registered_at_block: 5 };
    EmaState(values.iter().map(|(byte, value)| (key(*byte), entry(*value))).collect())
}

#[test]
fn bad_answers_cost_only_their_sender() {
    let mut nan = closes();
    nan[3] = f64::NAN;
    let mut infinite = closes();
    infinite[9] = f64::INFINITY;
    let answers = vec![
        (key(1), offset(10.0)),
        (key(2), nan),
        (key(3), infinite),
        (key(4), closes()[..9].to_vec()),
        (key(5), vec![1e300; 10]),
        (key(6), offset(30.0)),
        (key(7), offset(1.0)),
    ];
    let round = input(answers, &[1, 2, 3, 4, 5, 6]);
    let outcome = score_round(&round, &EmaState::default(), &ScoringConfig::default()).unwrap();
    let scored: Vec<_> = outcome.scores.iter().map(|score| (score.hotkey, score.rank)).collect();
    assert_eq!(scored, [(key(1), 1), (key(6), 2)]);
    assert_eq!(
        outcome.refused,
        [
            (key(2), RefusalReason::NotFinite { index: 3 }),
            (key(3), RefusalReason::NotFinite { index: 9 }),
            (key(4), RefusalReason::WrongLength { got: 9, want: 10 }),
            (key(5), RefusalReason::ErrorOverflow),
            (key(7), RefusalReason::NotRegistered),
        ]
    );
    assert_eq!(outcome.ema.0.len(), 2, "a miner that was never scored stays unknown");
}

#[test]
fn silence_decays_and_unknown_is_not_zero() {
    let before = prior(&[(1, 0.5), (2, 0.5)]);
    let round = input(vec![(key(1), offset(1.0))], &[1, 2, 3]);
    let outcome = score_round(&round, &before, &ScoringConfig::default()).unwrap();
    assert!(outcome.ema.value(&key(1)).unwrap() > 0.5);
    assert!(outcome.ema.value(&key(2)).unwrap() < 0.5);
    assert_eq!(outcome.ema.value(&key(3)), None);
    assert_eq!(outcome.ema.0[&key(2)].rounds, 2);
}

#[test]
fn a_round_without_usable_answers_changes_no_average() {
    let before = prior(&[(1, 0.5)]);
    for answers in [vec![], vec![(key(1), vec![f64::NAN; 10])]] {
        let outcome =
            score_round(&input(answers, &[1]), &before, &ScoringConfig::default()).unwrap();
        assert_eq!(outcome.ema, before);
        assert!(outcome.scores.is_empty());
    }
}

#[test]
fn missing_truth_and_missing_metagraph_are_errors_that_can_be_retried() {
    let config = ScoringConfig::default();
    let before = prior(&[(1, 0.5)]);
    let mut short = input(vec![(key(1), closes())], &[1]);
    short.realised.pop();
    let mut broken = input(vec![(key(1), closes())], &[1]);
    broken.realised[0] = f64::NAN;
    let nobody = input(vec![(key(1), closes())], &[]);
    for round in [short, broken, nobody] {
        assert!(score_round(&round, &before, &config).unwrap_err().is_retryable());
    }
    let twice = input(vec![(key(1), closes()), (key(1), closes())], &[1]);
    assert_eq!(score_round(&twice, &before, &config), Err(ScoreError::DuplicateAnswer(key(1))));
    let poisoned = prior(&[(1, f64::NAN)]);
    let round = input(vec![(key(1), closes())], &[1]);
    assert!(matches!(score_round(&round, &poisoned, &config), Err(ScoreError::BadAverage { .. })));
}

#[test]
fn whoever_registered_anew_starts_without_a_past() {
    let before = prior(&[(1, 0.9), (2, 0.1), (3, 0.7)]);
    let mut round = input(vec![(key(1), offset(2.0)), (key(2), offset(3.0))], &[1, 2]);
    round.members[0].1 = 77;
    let outcome = score_round(&round, &before, &ScoringConfig::default()).unwrap();
    assert_eq!(outcome.dropped, [key(1), key(3)]);
    let fresh = outcome.ema.0[&key(1)];
    assert_eq!((fresh.rounds, fresh.registered_at_block), (1, 77));
    assert!(fresh.value < 0.1);
}

#[test]
fn one_miner_and_equal_miners_have_defined_shares() {
    let one = input(vec![(key(1), offset(2.0))], &[1]);
    let outcome = score_round(&one, &EmaState::default(), &ScoringConfig::default()).unwrap();
    assert!((outcome.scores[0].share - 1.0).abs() < 1e-15);
    let equal = input(vec![(key(1), offset(2.0)), (key(2), offset(2.0))], &[1, 2]);
    let outcome = score_round(&equal, &EmaState::default(), &ScoringConfig::default()).unwrap();
    let shares: Vec<_> = outcome.scores.iter().map(|score| (score.share, score.rank)).collect();
    assert_eq!(shares, [(0.5, 1), (0.5, 1)]);
}

#[test]
fn a_better_forecaster_ends_above_a_worse_one() {
    let mut ema = EmaState::default();
    for _ in 0..200 {
        let answers = vec![(key(1), offset(10.0)), (key(2), offset(14.0)), (key(3), offset(60.0))];
        let round = input(answers, &[1, 2, 3]);
        ema = score_round(&round, &ema, &ScoringConfig::default()).unwrap().ema;
    }
    let board: Vec<_> = ema.leader_board().into_iter().map(|(hotkey, _)| hotkey).collect();
    assert_eq!(board, [key(1), key(2), key(3)]);
}

proptest! {
    #[test]
    fn order_of_answers_and_members_does_not_matter(
        offsets in prop::collection::vec(-500.0..500.0_f64, 2..30),
        seed in any::<u64>(),
    ) {
        let bytes: Vec<u8> = (1..=u8::try_from(offsets.len()).unwrap()).collect();
        let answers: Vec<_> =
            bytes.iter().zip(&offsets).map(|(byte, by)| (key(*byte), offset(*by))).collect();
        let round = input(answers, &bytes);
        let mut mixed = round.clone();
        let turn = usize::try_from(seed % offsets.len() as u64).unwrap();
        mixed.answers.rotate_left(turn);
        mixed.members.reverse();
        let before = prior(&[(2, 0.3), (1, 0.2)]);
        let mut other = before.clone();
        other.0.reverse();
        let config = ScoringConfig::default();
        let a = score_round(&round, &before, &config).unwrap();
        let b = score_round(&mixed, &other, &config).unwrap();
        prop_assert_eq!(&a.scores, &b.scores);
        let bits = |state: &EmaState| -> Vec<_> {
            state.0.iter().map(|(hotkey, entry)| (*hotkey, entry.value.to_bits())).collect()
        };
        prop_assert_eq!(bits(&a.ema), bits(&b.ema));
    }

    #[test]
    fn averages_stay_between_zero_and_one(
        rounds in prop::collection::vec(
            prop::collection::vec(any::<f64>(), 4), 1..20),
    ) {
        let mut ema = EmaState::default();
        for offsets in rounds {
            let answers: Vec<_> =
                (1..=4).zip(offsets).map(|(byte, by)| (key(byte), offset(by))).collect();
            let round = input(answers, &[1, 2, 3, 4]);
            ema = score_round(&round, &ema, &ScoringConfig::default()).unwrap().ema;
            prop_assert!(ema.0.values().all(|entry| (0.0..=1.0).contains(&entry.value)));
        }
    }
}
