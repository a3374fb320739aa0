//! Unknown and missing commands and flags.

use super::*;

#[test]
fn commands_and_flags_that_do_not_exist() {
    let place = place();
    check(
        &place,
        "frobnicate",
        "error: unrecognized subcommand 'frobnicate'\n\nUsage: undertone [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.",
    );
    check(
        &place,
        "train x.toml --epochs 3",
        "error: unexpected argument '--epochs' found\n\n  tip: to pass '--epochs' as a value, use '-- --epochs'\n\n\
        Usage: undertone train <EXPERIMENT>\n\nFor more information, try '--help'.",
    );
    check(
        &place,
        "data check",
        "error: the following required arguments were not provided:\n  <FILES>...\n\n\
        Usage: undertone data check <FILES>...\n\nFor more information, try '--help'.",
    );
    check(
        &place,
        "train x.toml --fold -1",
        "error: unexpected argument '-1' found\n\n  tip: to pass '-1' as a value, use '-- -1'\n\n\
        Usage: undertone train [OPTIONS] <EXPERIMENT>\n\nFor more information, try '--help'.",
    );
}
