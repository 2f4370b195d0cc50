//! Text from outside, made harmless for where it goes: a header line, a line of text, HTML.

/// One line without anything that acts instead of being shown: line breaks, NUL and other control
/// characters, and the marks that turn the direction of the text after them, become spaces; runs of
/// spaces become one. So no name can add a header or a line to a mail, or dress up as another.
#[must_use]
pub(super) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let c = if acts(c) { ' ' } else { c };
        if c != ' ' || !(out.is_empty() || out.ends_with(' ')) {
            out.push(c);
        }
    }
    out.truncate(out.trim_end_matches(' ').len());
    out
}

fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Text between tags or in a quoted attribute.
#[must_use]
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_keeps_its_words() {
        assert_eq!(one_line(" Zoë \r\n Bcc: x@y.z\0 "), "Zoë Bcc: x@y.z");
        assert_eq!(one_line("1\u{202f}234\u{a0}€"), "1\u{202f}234\u{a0}€");
        assert_eq!(one_line("a\u{202e}b\u{2028}c"), "a b c");
    }

    proptest! {
        #[test]
        fn nothing_that_acts_is_left(text in any::<String>()) {
            let line = one_line(&text);
            prop_assert!(!line.chars().any(acts));
            let again = one_line(&line);
            prop_assert_eq!(again, line);
        }

        #[test]
        fn escaped_text_has_no_markup(text in any::<String>()) {
            let escaped = html(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            let back = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"")
                .replace("&#39;", "'").replace("&amp;", "&");
            prop_assert_eq!(back, text);
        }
    }
}
