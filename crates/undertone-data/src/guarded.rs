//! Libraries that panic on a file from outside.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is caught and told in another way.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Calls a library that may panic on what a file holds; the message of a panic is the error. It prints no backtrace.
pub fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                before(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    QUIET.set(false);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
    })
}

/// The tokenizers library failed on a text. It is raised as a panic, because a tokenizer that was checked should encode every text;
/// [`caught`] turns it into an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tokenizers library fails on {text:?}: {cause}")]
pub struct TokenizerFailed {
    /// The start of the text.
    text: String,
    cause: String,
}

impl TokenizerFailed {
    /// Raises it.
    pub(crate) fn raise(text: &str, cause: String) -> ! {
        resume_unwind(Box::new(Self { text: text.chars().take(60).collect(), cause }))
    }
}

/// Calls what encodes texts.
///
/// # Errors
/// The tokenizers library failed. Every other panic goes on.
pub fn caught<T>(call: impl FnOnce() -> T) -> Result<T, TokenizerFailed> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| match panic.downcast::<TokenizerFailed>() {
        Ok(failed) => *failed,
        Err(other) => resume_unwind(other),
    })
}
