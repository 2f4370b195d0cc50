//! Text as people type it: without case, accents and punctuation.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Lower case letters and digits without accents, words parted by one space each.
#[must_use]
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for character in text
        .nfkd()
        .filter(|c| !is_combining_mark(*c))
        .flat_map(char::to_lowercase)
    {
        match character {
            'œ' => folded.push_str("oe"),
            'æ' => folded.push_str("ae"),
            c if c.is_alphanumeric() => folded.push(c),
            _ if folded.ends_with(' ') || folded.is_empty() => {}
            _ => folded.push(' '),
        }
    }
    folded.truncate(folded.trim_end().len());
    folded
}

/// Whether each word of a folded query begins a word of a folded text.
#[must_use]
pub fn matches(haystack: &str, query: &str) -> bool {
    query
        .split(' ')
        .all(|wanted| haystack.split(' ').any(|word| word.starts_with(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accents_case_and_punctuation_do_not_matter() {
        assert_eq!(
            fold("  Tir à l'arc — Château d’Élancourt "),
            "tir a l arc chateau d elancourt"
        );
        assert_eq!(fold("Œuvre"), "oeuvre");
        assert_eq!(fold("¡!"), "");
        let text =
            fold("Athletics: Men's 4 x 100m Relay / Athlétisme, Stade de France, Saint-Denis");
        for query in ["athle", "ATHLÉT", "saint denis", "relay men", "100m", ""] {
            assert!(matches(&text, &fold(query)), "{query}");
        }
        for query in ["letics", "athletics lyon", "200m"] {
            assert!(!matches(&text, &fold(query)), "{query}");
        }
    }
}
