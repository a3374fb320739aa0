//! A clock that jumps, back and forth, while a study runs.

use std::time::Duration;

use undertone_testing::events;
use undertone_testing::program::Workplace;

use super::{Outcome, STUDY, check_same, has, tries, undisturbed};

pub(crate) fn jump_while_it_trains() -> Option<Outcome> {
    if !has("faketime", "a clock that jumps") {
        return None;
    }
    let expected = undisturbed(STUDY);
    let (tries, jumps) = (tries(1, 10), ["+0", "-20y", "+30y", "-1h", "+1h", "-3d", "+0"]);
    for _ in 0..tries {
        let place = Workplace::new(12);
        place.write("clock", jumps[0]);
        let line = format!(
            "unset FAKETIME; export FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
             LD_PRELOAD=$(faketime -m '+0' sh -c 'echo $LD_PRELOAD')",
            place.path("clock").display()
        );
        // Stopped and resumed under every jump, so that event files begin at wild times.
        for jump in jumps {
            place.write("clock", jump);
            let mut running = place.start_under(&line, STUDY);
            std::thread::sleep(Duration::from_millis(250));
            place.write("clock", "-7y");
            std::thread::sleep(Duration::from_millis(100));
            let _ = running.child.kill();
            running.wait();
        }
        place.run_under(&line, STUDY).succeeded();
        check_same(&place, &expected, "with a clock that jumps");
        let steps = |folder: &str| -> Vec<i64> {
            let scalars = events::scalars(&place.path(&format!("out/tiny/{folder}/fold0/tensorboard")));
            scalars.into_iter().filter(|(tag, _)| tag == "loss/nats_per_token").map(|(_, step)| step).collect()
        };
        for folder in ["none", "past"] {
            let steps = steps(folder);
            assert_eq!(steps, (1..=steps.len() as i64).collect::<Vec<_>>(), "every step once in TensorBoard");
        }
    }
    let lost = "nothing; each step stands once in TensorBoard".to_owned();
    Some(Outcome {
        fault: "a clock that jumps by up to 30 years, in a study that is killed and resumed",
        tries: tries * jumps.len(),
        lost,
    })
}
