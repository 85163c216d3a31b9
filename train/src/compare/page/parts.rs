//! Small pieces of HTML.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Colours of the explainers, in their order; white text is readable on each.
const COLOURS: [&str; 12] = [
    "#1f5fa8", "#c2410c", "#0f766e", "#9d2f7f", "#856404", "#5b3fb0", "#4d7c0f", "#b4233c", "#0e6f8f", "#7c4a21",
    "#475569", "#b0186b",
];

/// Dashes of curves, for each time that the colours begin anew.
const DASHES: [&str; 3] = ["none", "8 4", "2 4"];

/// The colour of the explainer at a place; after the last one they begin anew.
pub(super) fn colour(place: usize) -> &'static str {
    COLOURS[place % COLOURS.len()]
}

/// The dashes of the explainer's curve, by which those of one colour differ.
pub(super) fn dashes(place: usize) -> &'static str {
    DASHES[place / COLOURS.len() % DASHES.len()]
}

/// The number of the explainer at a place, on its colour.
pub(super) fn badge(place: usize) -> String {
    format!("<span class=\"badge\" style=\"background:{}\">{}</span>", colour(place), place + 1)
}

/// Text as HTML shows it, also inside quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A JPEG as the address of itself.
pub(super) fn data_uri(jpeg: &[u8]) -> String {
    format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_dozen_curves_differ() {
        let looks: std::collections::BTreeSet<_> = (0..36).map(|place| (colour(place), dashes(place))).collect();
        assert_eq!((looks.len(), dashes(11), dashes(12)), (36, "none", "8 4"));
    }

    #[test]
    fn nothing_of_a_text_is_taken_for_html() {
        assert_eq!(escape("<b a='1' c=\"2\">&\n"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp; ");
    }

    #[test]
    fn a_picture_is_in_its_own_address() {
        assert_eq!(data_uri(b"fooba"), "data:image/jpeg;base64,Zm9vYmE=");
        assert_eq!(data_uri(&[0xfb, 0xff, 0xfe]), "data:image/jpeg;base64,+//+");
    }
}
