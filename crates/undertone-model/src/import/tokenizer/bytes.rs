//! Byte-level vocabularies: which character stands for which byte.

use std::collections::HashSet;

/// The bytes that UTF-8 can contain and the vocabulary cannot encode.
pub(super) fn unencodable_bytes(tokens: &[String]) -> Vec<u8> {
    let single: HashSet<char> = tokens
        .iter()
        .filter_map(|token| {
            let mut letters = token.chars();
            letters.next().filter(|_| letters.next().is_none())
        })
        .collect();
    let alphabet = byte_alphabet();
    let in_utf8 = |byte: &u8| !matches!(byte, 0xC0 | 0xC1 | 0xF5..);
    (0..=255).filter(in_utf8).filter(|byte| !single.contains(&alphabet[usize::from(*byte)])).collect()
}

/// The character that represents each byte in a byte-level vocabulary: the byte's own character if it is visible, else
/// the next one from U+0100 (`bytes_to_unicode` in GPT-2's `encoder.py`).
fn byte_alphabet() -> [char; 256] {
    let mut stand_ins = '\u{100}'..;
    std::array::from_fn(|byte| match byte as u8 {
        visible @ (b'!'..=b'~' | 0xA1..=0xAC | 0xAE..) => char::from(visible),
        _ => stand_ins.next().unwrap_or(char::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_without_a_token_are_found() {
        let alphabet = byte_alphabet();
        assert_eq!((alphabet[b' ' as usize], alphabet[b'\n' as usize], alphabet[0xAD]), ('Ġ', 'Ċ', 'Ń'));
        assert_eq!(alphabet.iter().collect::<HashSet<_>>().len(), 256);
        let all: Vec<String> = alphabet.iter().map(char::to_string).collect();
        assert!(unencodable_bytes(&all).is_empty());
        // Without `!`, and without 0xC0, which no text contains.
        let fewer: Vec<String> = all.into_iter().filter(|token| !["!", "À"].contains(&token.as_str())).collect();
        assert_eq!(unencodable_bytes(&fewer), [b'!']);
    }
}
