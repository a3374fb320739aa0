//! Finds the chat format of a template: renders conversations with known texts, and reads what stands around them.

use undertone_data::{ChatFormat, Speaker, ThoughtKind, Turn, with_name};

use super::jinja::{ChatMessage, ChatTemplate};

/// The system text, then messages and replies in turn. No template has these words.
const SYSTEM: &str = "Quill0";
const TEXTS: [&str; 5] = ["Quill1", "Quill2", "Quill3", "Quill4", "Quill5"];
/// A role that no template knows. A template that writes a role in the same way does not know that role either.
const STRANGER: &str = "quillrole";

/// The format of a template, with the special tokens of its tokenizer.
///
/// # Errors
/// The template does not write each turn in the same way; what it writes is in the error.
pub fn format_of_template(template: &ChatTemplate, special: &[String]) -> Result<ChatFormat, String> {
    let [before, after_prompt, after_reply] = between_turns(template)?;
    let reply_end = first_token(&after_reply, special).ok_or_else(|| {
        format!("behind a reply it writes {after_reply:?}, which does not begin with a special token that could end the reply")
    })?;
    let (separator, header) = divided(&after_reply[reply_end.len()..]);
    if header.is_empty() {
        return Err(format!("before a message it writes nothing but the end of the reply, {after_reply:?}"));
    }
    // A format that does not end the turns of users with a token gets the end of replies.
    let prompt_end = first_token(&after_prompt, special);
    let (prompt_separator, reply_header) = divided(&after_prompt[prompt_end.map_or(0, str::len)..]);
    let turn = |header: &str, end: &str, separator: &str| Turn {
        header: header.to_owned(),
        end: end.to_owned(),
        separator: separator.to_owned(),
    };
    let user = turn(header, prompt_end.unwrap_or(reply_end), prompt_separator);
    let assistant = turn(reply_header, reply_end, separator);
    let Some(opening) = before.strip_suffix(header) else {
        return Err(format!(
            "before the first message it writes {before:?}, which does not end as before the second one, with {header:?}"
        ));
    };
    let (opening, system) = system_turn(template, special, opening, &user)?;
    let format = ChatFormat::of_roles(opening, user.clone(), assistant, system);
    let others = [ThoughtKind::Reason, ThoughtKind::Reaction]
        .into_iter()
        .flat_map(|kind| [Speaker::Thought(kind), Speaker::Label(kind)])
        .chain([Speaker::End]);
    let of_stranger = header_of(template, STRANGER, &user);
    Ok(others.fold(format, |format, speaker| match header_of(template, speaker.name(), &user) {
        Some(header) if Some(&header) != of_stranger.as_ref() => format.with_header(speaker, header),
        _ => format,
    }))
}

/// The header of a role that ends its turn as the user does, if the template knows the role. Exports know all roles.
fn header_of(template: &ChatTemplate, role: &str, user: &Turn) -> Option<String> {
    let [first, second, third, ..] = TEXTS;
    let messages =
        [("user", first), (role, second), ("user", third)].map(|(role, content)| ChatMessage { role, content });
    let text = template.render(&messages, false).ok()?;
    let [_, before, behind] = around(&text, &[first, second, third]).ok()?;
    let after_turn = |text: &str| text.strip_prefix(&user.end)?.strip_prefix(&user.separator).map(str::to_owned);
    after_turn(before).filter(|header| !header.is_empty() && after_turn(behind).as_ref() == Some(&user.header))
}

/// What is written before the first message, behind a message, and behind a reply.
fn between_turns(template: &ChatTemplate) -> Result<[String; 3], String> {
    let messages: Vec<ChatMessage<'_>> = conversation(&TEXTS).collect();
    let text = template.render(&messages, false)?;
    let [before, first, second, third, fourth] = around(&text, &TEXTS)?;
    for (of, first, later) in [("a message", first, third), ("a reply", second, fourth)] {
        if first != later {
            return Err(format!("it is not regular: behind {of} it writes {first:?} once, and {later:?} once"));
        }
    }
    Ok([before, first, second].map(str::to_owned))
}

/// The text before the first turn, and the turn of a system text, if it has one of its own. `opening` is what is written
/// before the first message of a conversation without system text: it may hold a system text of the template.
fn system_turn(
    template: &ChatTemplate,
    special: &[String],
    opening: &str,
    user: &Turn,
) -> Result<(String, Option<Turn>), String> {
    let with_first = |role| {
        let first = ChatMessage { role, content: SYSTEM };
        template.render(&[first].into_iter().chain(conversation(&TEXTS)).collect::<Vec<_>>(), false)
    };
    // A template that refuses a system text has none of its own.
    let Ok(text) = with_first("system") else { return Ok((opening.to_owned(), None)) };
    // Some templates put it into the last message.
    let Ok([before, behind]) = around(&text, &[SYSTEM, TEXTS[0]]) else { return Ok((opening.to_owned(), None)) };
    // It has the form of every turn; what the template writes in front of the text is left out.
    if let Some((opening, _)) = with_name(&user.header, "system").and_then(|header| before.split_once(&header)) {
        return Ok((opening.to_owned(), None));
    }
    // It is a part of the first message, or stands without a turn before it.
    if let Some(opening) = before.strip_suffix(user.header.as_str()) {
        return Ok((opening.to_owned(), None));
    }
    let Some(behind) = behind.strip_suffix(user.header.as_str()) else {
        return Err(format!("behind a system text it writes {behind:?}, which does not end with {:?}", user.header));
    };
    if behind.is_empty() {
        return Ok((before.to_owned(), None));
    }
    let end = first_token(behind, special);
    // The template does not know the role, or ends the text with words.
    if with_first(STRANGER).as_ref() == Ok(&text) || (end.is_none() && !behind.trim().is_empty()) {
        return Ok((opening.to_owned(), None));
    }
    // A template with a system text of its own opens its turn, too.
    let has_own = opening.starts_with(before) || !before.starts_with(opening);
    let opening = match has_own {
        true => Some(template.begin()).filter(|begin| before.starts_with(begin)).unwrap_or_default(),
        false => opening,
    };
    let turn = Turn {
        header: before[opening.len()..].to_owned(),
        end: end.unwrap_or(&user.end).to_owned(),
        separator: behind[end.map_or(0, str::len)..].to_owned(),
    };
    Ok((opening.to_owned(), Some(turn)))
}

fn conversation<'a>(texts: &'a [&'a str]) -> impl Iterator<Item = ChatMessage<'a>> {
    texts.iter().zip(["user", "assistant"].into_iter().cycle()).map(|(&content, role)| ChatMessage { role, content })
}

/// What stands before each of these texts.
fn around<'a, const N: usize>(text: &'a str, texts: &[&str; N]) -> Result<[&'a str; N], String> {
    let mut rest = text;
    let mut parts = [""; N];
    for (part, content) in parts.iter_mut().zip(texts) {
        let Some((before, after)) = rest.split_once(content).filter(|_| text.matches(content).count() == 1) else {
            return Err(format!("it does not write each text of a conversation once and in order, but {text:?}"));
        };
        (*part, rest) = (before, after);
    }
    Ok(parts)
}

/// The longest special token with which a text begins.
fn first_token<'a>(text: &'a str, special: &[String]) -> Option<&'a str> {
    let begins = special.iter().filter(|token| text.starts_with(token.as_str()));
    begins.map(String::len).max().filter(|length| *length > 0).map(|length| &text[..length])
}

/// Space, and the header behind it.
fn divided(text: &str) -> (&str, &str) {
    text.split_at(text.len() - text.trim_start().len())
}
