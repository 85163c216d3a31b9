//! Small pieces of the page: an explainer's colour and badge, and images inside the page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

/// Colours of the explainers, in their order; white text is readable on each.
const COLOURS: [&str; 12] = [
    "#1f5fa8", "#c2410c", "#0f766e", "#9d2f7f", "#856404", "#5b3fb0", "#4d7c0f", "#b4233c", "#0e6f8f", "#7c4a21",
    "#475569", "#b0186b",
];

/// Dashes of curves: each time the colours repeat, the next of these.
const DASHES: [&str; 3] = ["none", "8 4", "2 4"];

/// The colour of the explainer at a place; colours repeat after the last one.
pub(super) fn colour(place: usize) -> &'static str {
    COLOURS[place % COLOURS.len()]
}

/// The dashes of the explainer's curve, which distinguish curves of one colour.
pub(super) fn dashes(place: usize) -> &'static str {
    DASHES[place / COLOURS.len() % DASHES.len()]
}

/// The number of the explainer at a place, on its colour.
pub(super) fn badge(place: usize) -> Markup {
    html! { span.badge style={ "background:" (colour(place)) } { (place + 1) } }
}

/// A JPEG as a `data:` address.
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
    fn an_image_is_base64_inside_its_address() {
        assert_eq!(data_uri(b"fooba"), "data:image/jpeg;base64,Zm9vYmE=");
        assert_eq!(data_uri(&[0xfb, 0xff, 0xfe]), "data:image/jpeg;base64,+//+");
    }
}
