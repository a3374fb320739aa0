//! Users in, parts out; the hash is pinned, because results depend on it.

use super::*;

fn users(count: usize) -> Vec<String> {
    (1..=count).map(|index| format!("user{index}")).collect()
}

fn assign(options: &SplitOptions, users: &[String]) -> BTreeMap<String, Split> {
    options.assign(users.iter().map(String::as_str), Path::new("run.toml")).expect("the options are valid")
}

/// Train, validation, test.
fn counts(assigned: &BTreeMap<String, Split>) -> [usize; 3] {
    [Split::Train, Split::Validation, Split::Test].map(|split| assigned.values().filter(|&&part| part == split).count())
}

fn members(assigned: &BTreeMap<String, Split>, split: Split) -> Vec<&str> {
    let members = assigned.iter().filter(|(_, part)| **part == split);
    members.map(|(user, _)| user.as_str()).collect()
}

fn show(problems: &[InputError]) -> Vec<String> {
    problems
        .iter()
        .map(|problem| match &problem.hint {
            Some(hint) => format!("{problem} ({hint})"),
            None => problem.to_string(),
        })
        .collect()
}

/// Made with Python:
///
/// ```python
/// from hashlib import sha256
/// rank = lambda u: sha256(b"undertone split v1" + (7).to_bytes(8, "little") + u.encode()).digest()
/// print(sorted((f"user{i}" for i in range(1, 21)), key=rank))
/// ```
#[test]
fn the_ranking_is_pinned() {
    let users = users(20);
    let ranked = ranked(users.iter().map(String::as_str), 7);
    assert_eq!(ranked, RANKED);
    let options = SplitOptions { seed: 7, ..SplitOptions::default() };
    let assigned = assign(&options, &users);
    let sorted = |part: &[&'static str]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part
    };
    assert_eq!(members(&assigned, Split::Test), sorted(&RANKED[..2]));
    assert_eq!(members(&assigned, Split::Validation), sorted(&RANKED[2..4]));
}

const RANKED: [&str; 20] = [
    "user12", "user9", "user18", "user6", "user20", "user3", "user1", "user17", "user19", "user14", "user15", "user4",
    "user10", "user2", "user13", "user5", "user7", "user8", "user16", "user11",
];

#[test]
fn the_order_of_the_data_makes_no_difference() {
    let users = users(50);
    let mut reversed = users.clone();
    reversed.reverse();
    reversed.extend(users[..10].iter().cloned());
    let options = SplitOptions::default();
    assert_eq!(assign(&options, &users), assign(&options, &reversed));
    let other_seed = SplitOptions { seed: 1, ..SplitOptions::default() };
    assert_ne!(assign(&options, &users), assign(&other_seed, &users));
}

#[test]
fn every_part_gets_a_user_if_there_are_enough() {
    let sizes = |count| counts(&assign(&SplitOptions::default(), &users(count)));
    assert_eq!(sizes(0), [0, 0, 0]);
    assert_eq!(sizes(1), [1, 0, 0]);
    assert_eq!(sizes(2), [1, 0, 1]);
    assert_eq!(sizes(3), [1, 1, 1]);
    assert_eq!(sizes(4), [2, 1, 1]);
    assert_eq!(sizes(10), [8, 1, 1]);
    assert_eq!(sizes(23), [19, 2, 2]);
    assert_eq!(sizes(1_058), [846, 106, 106]);
}

#[test]
fn shares_become_whole_users() {
    assert_eq!(whole_shares(30, [0.9, 0.1, 0.0]), [27, 3, 0]);
    assert_eq!(whole_shares(5, [1.0, 0.0, 0.0]), [5, 0, 0]);
    assert_eq!(whole_shares(10, [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]), [4, 3, 3]);
    assert_eq!(whole_shares(3, [0.98, 0.01, 0.01]), [1, 1, 1]);
    for total in 0..200 {
        for shares in [[0.8, 0.1, 0.1], [0.34, 0.33, 0.33], [0.5, 0.5, 0.0]] {
            let counts = whole_shares(total, shares);
            assert_eq!(counts.iter().sum::<usize>(), total, "{shares:?}");
        }
    }
}

#[test]
fn listed_users_win_and_count_towards_their_share() {
    let options = |validation_users: &[&str], test_users: &[&str]| SplitOptions {
        validation_users: validation_users.iter().map(|&user| user.into()).collect(),
        test_users: test_users.iter().map(|&user| user.into()).collect(),
        ..SplitOptions::default()
    };
    let users = users(20);
    let assigned = assign(&options(&["user3"], &["user5", "user6", "user7"]), &users);
    assert_eq!(counts(&assigned), [15, 2, 3]);
    assert_eq!(members(&assigned, Split::Test), ["user5", "user6", "user7"]);
    assert_eq!(assigned["user3"], Split::Validation);
}

#[test]
fn every_problem_is_reported() {
    let options = SplitOptions {
        train: 0.9,
        validation: -0.1,
        test: 0.1,
        validation_users: vec!["user2".into(), "usr4".into()],
        test_users: vec!["user2".into(), "somebody".into()],
        ..SplitOptions::default()
    };
    let users = users(5);
    let problems = options.problems(users.iter().map(String::as_str), Path::new("run.toml"));
    assert_eq!(
        show(&problems),
        [
            "`run.toml`, `validation`: -0.1 is not a share of the users (a share is from 0 to 1)",
            "`run.toml`, `train`: `train`, `validation` and `test` add up to 0.9, not 1 \
             (0.9 + -0.1 + 0.1)",
            "`run.toml`, `validation_users`: no conversation is by user `usr4` \
             (did you mean `user4`?)",
            "`run.toml`, `test_users`: no conversation is by user `somebody` \
             (users are named as in conversation ids, such as `user6`)",
            "`run.toml`, `test_users`: user `user2` is also in `validation_users` \
             (a user belongs to one part only; remove the user from one of the lists)",
        ]
    );
    let error =
        options.assign(users.iter().map(String::as_str), Path::new("run.toml")).expect_err("the options are wrong");
    assert_eq!(error, problems[0]);
    for no_number in [f64::NAN, f64::INFINITY] {
        let options = SplitOptions { test: no_number, ..SplitOptions::default() };
        assert!(!options.problems([], Path::new("run.toml")).is_empty());
    }
}

#[test]
fn options_refuse_unknown_keys() {
    let options: SplitOptions = serde_json::from_str(r#"{"seed":3}"#).expect("valid");
    assert_eq!((options.seed, options.train), (3, 0.8));
    assert!(serde_json::from_str::<SplitOptions>(r#"{"sead":3}"#).is_err());
    assert!(serde_json::from_str::<FoldOptions>(r#"{"k":3}"#).is_err());
}

fn folds(count: usize, options: FoldOptions) -> Vec<Fold> {
    let users = users(count);
    options.assign(users.iter().map(String::as_str), Path::new("run.toml")).expect("the options are valid")
}

#[test]
fn every_user_is_tested_once_in_folds_of_even_size() {
    for (count, asked, expect) in
        [(23, 5, vec![5, 5, 5, 4, 4]), (4, 0, vec![1, 1, 1, 1]), (3, 9, vec![1, 1, 1]), (2, 2, vec![1, 1])]
    {
        let folds = folds(count, FoldOptions { folds: asked, validation: 0.2, ..FoldOptions::default() });
        let sizes: Vec<usize> = folds.iter().map(|fold| fold.test_users.len()).collect();
        assert_eq!(sizes, expect);
        let mut tested: Vec<&String> = folds.iter().flat_map(|fold| &fold.test_users).collect();
        tested.sort_unstable();
        let mut all = users(count);
        all.sort_unstable();
        assert!(tested.into_iter().eq(&all));
        for (index, fold) in folds.iter().enumerate() {
            assert_eq!(fold.index, index);
            let parts = [&fold.train_users, &fold.validation_users, &fold.test_users];
            assert_eq!(parts.map(BTreeSet::len).iter().sum::<usize>(), count);
            assert_eq!(fold.assignment().len(), count, "no user is in two parts");
            assert!(!fold.train_users.is_empty());
        }
    }
}

#[test]
fn a_fold_takes_its_validation_users_from_those_it_does_not_test() {
    let sizes = |count, validation| {
        let options = FoldOptions { folds: 2, validation, ..FoldOptions::default() };
        let fold = folds(count, options).remove(0);
        [&fold.train_users, &fold.validation_users, &fold.test_users].map(BTreeSet::len)
    };
    assert_eq!(sizes(20, 0.0), [10, 0, 10]);
    assert_eq!(sizes(20, 0.3), [7, 3, 10]);
    assert_eq!(sizes(20, 0.01), [9, 1, 10]);
    assert_eq!(sizes(2, 0.5), [1, 0, 1]);
}

#[test]
fn folds_that_leave_nobody_to_train_on() {
    let error = |count, folds, validation| {
        let options = FoldOptions { folds, validation, seed: 0 };
        let users = users(count);
        let users = users.iter().map(String::as_str);
        let error = options.assign(users, Path::new("run.toml"));
        error.expect_err("the options are wrong").to_string()
    };
    assert_eq!(error(5, 1, 0.0), "`run.toml`, `folds`: 1 fold(s) of 5 user(s) leave no user to train on");
    assert_eq!(error(1, 0, 0.0), "`run.toml`, `folds`: 0 fold(s) of 1 user(s) leave no user to train on");
    assert_eq!(error(5, 2, 1.0), "`run.toml`, `validation`: 1 is not a share from 0 to below 1");
}

#[test]
fn overlaps_are_found_whatever_the_assignment_says() {
    let conversation = |user: &str, number: usize| Conversation {
        id: format!("{user}_task1_conversation{number}"),
        user: user.into(),
        task: format!("{user}_task1"),
        assistant_model: None,
        survey: Default::default(),
        messages: Vec::new(),
    };
    let [a1, a2, b1] = [("user1", 1), ("user1", 2), ("user2", 1)].map(|(user, number)| conversation(user, number));
    let clean = check_disjoint([(Split::Train, &a1), (Split::Train, &a2), (Split::Test, &b1)]);
    assert!(clean.is_disjoint());
    let leak = check_disjoint([(Split::Train, &a1), (Split::Test, &a2), (Split::Validation, &b1), (Split::Test, &b1)]);
    let shared = Overlap { train_test: 1, validation_test: 1, train_validation: 0 };
    assert_eq!(
        leak,
        OverlapReport { users: shared, tasks: shared, conversations: Overlap { train_test: 0, ..shared } }
    );
    assert!(!leak.is_disjoint());
}
