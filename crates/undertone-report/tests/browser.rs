//! Clicks through the page in a real browser, with data that contains markup.
//!
//! Needs Chromium (`/usr/bin/chromium`, or `UNDERTONE_CHROMIUM`). Without it the test prints that it is skipped,
//! and fails if `CI` is set. `UNDERTONE_SCREENSHOTS=FOLDER` saves screenshots.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use headless_chrome::protocol::cdp::Page::CaptureScreenshotFormatOption::Png;
use headless_chrome::{Browser, LaunchOptions, Tab};
use undertone_report::{
    Curve, Explorer, ForestRow, Report, Section, SeenThoughts, ShownConversation, ShownItem, ShownMessage,
    ShownThought, Table, columns, page,
};
use undertone_stats::{Decision, Interval};

/// Text that runs a script if it is taken for markup.
const EVIL: &str = "</script><img src=x onerror=\"window.hurt = 1\"><script>window.hurt = 1</script>";

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("UNDERTONE_CHROMIUM").map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "a skipped test is a failure in CI: there is no Chromium at {path:?}");
    eprintln!("skipped: there is no Chromium at {path:?}; install it, or name it by UNDERTONE_CHROMIUM");
    None
}

fn message(role: &str, text: &str, thoughts: Vec<ShownThought>) -> ShownMessage {
    ShownMessage { role: role.into(), text: text.into(), thoughts }
}

/// A conversation whose second user message costs `gain` nats per token less with thoughts. Before it, the arm `past` sees
/// the reason and not the reaction, which was written later.
fn conversation(id: &str, gain: f32) -> ShownConversation {
    let thought = |kind: &str, text: &str, late| ShownThought {
        kind: kind.into(),
        text: text.into(),
        label: Some("Explicit Affirmation".into()),
        late,
    };
    let tokens = ["shorter", " pls ", EVIL, "<|im_end|>"].map(str::to_owned).to_vec();
    let nats: BTreeMap<String, Vec<f32>> = [("none", 3.0), ("past", 3.0 - gain), ("others", 3.0)]
        .map(|(arm, nats)| (arm.to_owned(), vec![nats; 4]))
        .into();
    let written = [("none".to_owned(), "Thanks!".to_owned()), ("past".to_owned(), EVIL.to_owned())].into();
    ShownConversation {
        id: id.into(),
        model: Some("a model & co".into()),
        messages: vec![
            message("user", &format!("Which bus is it? {EVIL}"), vec![thought("reason", "I am late.", Some(false))]),
            message(
                "assistant",
                "A very long answer about buses. ".repeat(60).trim(),
                vec![thought("reaction", EVIL, Some(true))],
            ),
            message("user", "shorter pls", Vec::new()),
        ],
        items: vec![ShownItem {
            message: 2,
            kind: "next_prompt".into(),
            primary: true,
            tokens,
            views: vec![SeenThoughts { seen: vec![(0, 0)], late: vec![(1, 0)] }],
            saved: vec![(0, 0, 0.75)],
            written,
            nats,
        }],
        words: [("others".to_owned(), vec![vec!["I am early.".to_owned()], vec![String::new()], Vec::new()])].into(),
    }
}

/// As [`conversation`], without a visible thought.
fn blind(id: &str, gain: f32) -> ShownConversation {
    let mut conversation = conversation(id, gain);
    conversation.items[0].views[0].seen.clear();
    conversation
}

fn report() -> Report {
    let row = |name: &str, value: f64, decision, primary| ForestRow {
        name: name.into(),
        value,
        interval: Some(Interval { low: value - 0.05, high: value + 0.04 }),
        decision,
        numbers: format!("{value:+.3} · {decision}"),
        primary,
    };
    let table = Table {
        title: format!("Loss by arm {EVIL}"),
        header: columns(&["arm"], &["nats/token"]),
        rows: vec![vec!["none".into(), "3.146".into()], vec!["past".into(), "3.084".into()]],
        notes: vec!["Lower is better.".into()],
    };
    // As wide as a real comparison table.
    let numbers = ["items", "users", "tokens", "a", "b", "difference", "95 % interval", "p"];
    let comparison = ["past-anchored − past-anchored-shuffled", "1,022", "117", "14,250", "3.353", "3.208", "−0.145"];
    let comparison = comparison.into_iter().chain(["−0.240 to −0.084", "< 0.001", "undecided"]);
    let wide = Table {
        title: "Every comparison".into(),
        header: columns(&["b − a"], &numbers).into_iter().chain(columns(&["b is"], &[])).collect(),
        rows: vec![comparison.map(str::to_owned).collect()],
        notes: Vec::new(),
    };
    let group_row =
        ForestRow { numbers: "−0.133 · 145 items, 113 users".into(), ..row("Group", -0.1, Decision::Better, false) };
    let points = |floor: f64| (1..40).map(|step| (f64::from(step), floor + 1.0 / f64::from(step))).collect();
    Report {
        name: EVIL.into(),
        question: "How well is a user's next message predicted by models that see their thoughts?".into(),
        answer: "Seeing past thoughts lowered the loss by 0.062 nats per token: `past` is better (p = 0.012).".into(),
        number: "−0.062 nats per token, 95 % interval −0.112 to −0.022".into(),
        decided: vec!["Decided: `past` is better than `none`.".into()],
        warnings: vec!["SYNTHETIC data: results show that the program works, and say nothing about people.".into()],
        forest: vec![
            row("past − none", -0.062, Decision::Better, true),
            row("filler − none", 0.006, Decision::Tied, false),
            row("shuffled − none", 0.071, Decision::Worse, false),
            row("past-anchored − past-anchored-shuffled", -0.02, Decision::Undecided, false),
        ],
        margin: Some(0.01),
        setting: vec!["27 conversations of 23 users.".into()],
        sections: vec![Section {
            title: "Every arm".into(),
            introduction: String::new(),
            forest: vec![group_row],
            users: Vec::new(),
            tables: vec![table, wide],
        }],
        details: Vec::new(),
        curves: vec![
            Curve { name: "none".into(), points: points(3.1) },
            Curve { name: "past".into(), points: points(3.0) },
        ],
        explorer: Explorer {
            arms: vec!["none".into(), "past".into(), "others".into()],
            chosen: [0, 1],
            views: vec![None, Some(0), Some(0)],
            conversations: vec![
                conversation("first", 0.5),
                conversation("second", -1.0),
                conversation("third", 2.0),
                blind("fourth", 9.0),
            ],
            left_out: 7,
        },
        provenance: vec!["undertone 0.1.0".into()],
    }
}

fn text(tab: &Arc<Tab>, expression: &str) -> String {
    let value = tab.evaluate(expression, false).unwrap().value.unwrap_or_default();
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn screenshot(tab: &Arc<Tab>, name: &str) {
    let Some(folder) = std::env::var_os("UNDERTONE_SCREENSHOTS") else { return };
    let bytes = tab.capture_screenshot(Png, None, None, true).unwrap();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
}

#[test]
fn the_page_works_in_a_browser_and_runs_nothing_from_the_data() {
    let Some(chromium) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    std::fs::write(&file, page(&report())).unwrap();
    let quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
    let options = LaunchOptions::default_builder()
        .path(Some(chromium))
        .sandbox(false)
        .window_size(Some((1280, 1000)))
        .args(quiet.into_iter().map(OsStr::new).collect())
        .idle_browser_timeout(Duration::from_secs(120))
        .build()
        .unwrap();
    let browser = Browser::new(options).unwrap();
    let tab = browser.new_tab().unwrap();
    tab.navigate_to(&format!("file://{}", file.display())).unwrap().wait_until_navigated().unwrap();

    // The first screen has the question, the answer, the number and the plot.
    assert_eq!(text(&tab, "document.querySelector('h1').textContent"), report().question);
    assert_eq!(text(&tab, "document.querySelector('.answer code').textContent"), "past");
    assert_eq!(text(&tab, "document.querySelector('.number').textContent"), report().number);
    assert_eq!(text(&tab, "String(document.querySelectorAll('header svg .point').length)"), "4");
    assert_eq!(
        text(&tab, "String(document.querySelector('header svg').getBoundingClientRect().bottom < 1000)"),
        "true"
    );
    screenshot(&tab, "first-screen");
    // Plots have room for every text in them.
    let cut = "[...document.querySelectorAll('svg text')].filter(text => { const box = text.getBBox(); \
        return box.x < 0 || box.x + box.width > text.ownerSVGElement.viewBox.baseVal.width; }).map(text => text.textContent).join()";
    assert_eq!(text(&tab, cut), "");

    // The explorer opens on the first conversation: tokens shaded, thoughts beside their messages.
    let selected = "document.querySelector('#list [aria-selected=true]').textContent";
    assert_eq!(text(&tab, selected), "+2.00first");
    assert_eq!(text(&tab, "String(document.querySelectorAll('#chat .token').length)"), "4");
    assert!(text(&tab, "document.querySelector('#chat .token').style.backgroundColor").contains("--help"));
    assert!(text(&tab, "document.querySelector('#chat').textContent").contains("window.hurt"), "text is shown as text");
    assert!(text(&tab, "document.querySelector('.assistant .thought').textContent").contains("hindsight"));

    assert_eq!(text(&tab, "document.querySelector('.written div:first-child').textContent"), "none wroteThanks!");
    assert_eq!(
        text(&tab, "document.querySelector('.written div:last-child').textContent"),
        format!("past wrote{EVIL}")
    );

    // Under the target stand exactly the thoughts that the arm sees, and those that it does not see yet.
    let seen = "document.querySelector('#chat .seen').textContent";
    assert_eq!(
        text(&tab, seen),
        format!(
            "past sees 1 thought, 1 hidden: written laterreason about message 1I am late.\
             reaction about message 2, hidden: written later{EVIL}"
        )
    );

    // A click on a thought shows what it did.
    tab.wait_for_element("#chat .turn .thoughts .thought").unwrap().click().unwrap();
    assert_eq!(
        text(&tab, "document.querySelector('#chat .effect').textContent"),
        "without it, message 3 costs +0.75 nats"
    );

    // Keys move through the list, the order menu sorts it, a click selects, and swapping the arms flips the signs.
    tab.press_key("j").unwrap();
    assert_eq!(text(&tab, selected), "−4.00second");
    assert!(text(&tab, "document.querySelector('#chat .token').style.backgroundColor").contains("--hurt"));
    tab.press_key("k").unwrap();
    assert_eq!(text(&tab, selected), "+2.00first");
    let choose = |id: &str, value: &str| {
        let script = format!(
            "const e = document.getElementById('{id}'); e.value = '{value}'; e.dispatchEvent(new Event('change')); ''"
        );
        tab.evaluate(&format!("(() => {{ {script} }})()"), false).unwrap();
    };
    choose("order", "help");
    assert_eq!(text(&tab, selected), "+8.00third");
    choose("order", "harm");
    assert_eq!(text(&tab, selected), "−4.00second");
    tab.wait_for_element("#list li:nth-child(4)").unwrap().click().unwrap();
    assert_eq!(text(&tab, selected), "+8.00third");
    screenshot(&tab, "explorer");
    // Where no thought is visible, nothing is shaded or summed.
    choose("order", "file");
    tab.wait_for_element("#list li:nth-child(4)").unwrap().click().unwrap();
    assert_eq!(text(&tab, selected), "+0.00fourth");
    assert!(
        text(&tab, "document.querySelector('#chat .target').textContent").contains("this is a difference of training")
    );
    assert_eq!(text(&tab, "document.querySelector('#chat .token').style.backgroundColor"), "");
    // A placebo is shown with its own words.
    choose("arm-b", "others");
    assert!(text(&tab, seen).contains("I am early."), "{}", text(&tab, seen));
    choose("order", "harm");
    choose("arm-b", "none");
    choose("arm-a", "past");
    assert_eq!(text(&tab, selected), "−8.00third");

    // The page says how many conversations are left out; nothing from the data has run or been fetched.
    assert!(text(&tab, "document.querySelector('#explorer .warning').textContent").contains("7 are left out"));
    assert_eq!(text(&tab, "String(window.hurt)"), "undefined");
    assert_eq!(text(&tab, "String(performance.getEntriesByType('resource').length)"), "0");

    // In dark mode, the background is dark.
    tab.call_method(headless_chrome::protocol::cdp::Emulation::SetEmulatedMedia {
        media: None,
        features: Some(vec![headless_chrome::protocol::cdp::Emulation::MediaFeature {
            name: "prefers-color-scheme".into(),
            value: "dark".into(),
        }]),
    })
    .unwrap();
    assert_eq!(text(&tab, "getComputedStyle(document.body).backgroundColor"), "rgb(15, 19, 24)");
    screenshot(&tab, "dark");

    // In print, on A4 with margins, no table is cut off.
    tab.call_method(headless_chrome::protocol::cdp::Emulation::SetEmulatedMedia {
        media: Some("print".into()),
        features: None,
    })
    .unwrap();
    let beyond = "(() => { document.documentElement.style.width = '703px'; \
        return [...document.querySelectorAll('table')].filter(table => table.getBoundingClientRect().right > 703) \
        .map(table => table.textContent).join(); })()";
    assert_eq!(text(&tab, beyond), "");
}
