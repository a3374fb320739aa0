//! Several processes that start the same study at once.

use undertone_testing::program::Workplace;

use super::{Outcome, STUDY, check_same, tries, undisturbed};

fn start_at_once(count: usize, tries: usize) -> usize {
    let expected = undisturbed(STUDY);
    for _ in 0..tries {
        let place = Workplace::new(12);
        let running: Vec<_> = (0..count).map(|_| place.start(STUDY)).collect();
        let mut succeeded = 0;
        for running in running {
            let ran = running.wait();
            succeeded += usize::from(ran.status.success());
            if !ran.status.success() {
                assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
                assert!(ran.stderr.contains("another run works in this folder: process "), "{}", ran.stderr);
            }
        }
        assert!(succeeded >= 1, "one of them works");
        check_same(&place, &expected, "started by several processes");
    }
    tries
}

const LOST: &str = "nothing: one works, the others end at once and name it";

pub(crate) fn two_start_at_once() -> Option<Outcome> {
    Some(Outcome {
        fault: "two processes start a study at once",
        tries: start_at_once(2, tries(2, 30)),
        lost: LOST.into(),
    })
}

pub(crate) fn eight_start_at_once() -> Option<Outcome> {
    Some(Outcome {
        fault: "eight processes start a study at once",
        tries: start_at_once(8, tries(1, 15)),
        lost: LOST.into(),
    })
}
