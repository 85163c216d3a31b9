//! Small pieces of HTML.

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
    format!("data:image/jpeg;base64,{}", base64(jpeg))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= three.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
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
    fn base64_is_that_of_the_standard() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (text, expected) in vectors {
            assert_eq!(base64(text.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
