//! The gallery of the page: the images that the reference explains worst, with every explainer's map.

use maud::{Markup, html};

use super::super::Report;
use super::super::report::number;
use super::direction;
use super::parts::{badge, data_uri};

impl Report {
    pub(super) fn gallery_section(&self) -> Markup {
        let gallery = &self.gallery;
        let spec = self.metrics.iter().find(|spec| spec.name == gallery.metric);
        let Some(spec) = spec.filter(|_| !gallery.cases.is_empty()) else { return Markup::default() };
        let (shown, left_out): (Vec<usize>, Vec<usize>) = (0..self.explainers.len())
            .partition(|place| gallery.cases.iter().any(|case| matches!(case.maps.get(*place), Some(Some(_)))));
        let left_out: Vec<&str> = left_out.into_iter().map(|place| self.name(place)).collect();
        html! {
            section {
                h2 { "Gallery" }
                p {
                    "The " (gallery.cases.len()) " worst images of " b { (self.reference) } " by " (spec.name)
                    ", the worst first (" (direction(spec).0) " is better), with the map of every explainer for the \
                     predicted class and its value."
                    @if !left_out.is_empty() { " Not measured on any of them: " (left_out.join(", ")) "." }
                }
                div.scroll {
                    table class="gallery" {
                        thead {
                            tr {
                                th scope="col" { "image" }
                                @for place in &shown { th scope="col" { (self.labelled(*place)) } }
                            }
                        }
                        tbody {
                            @for case in &gallery.cases {
                                tr {
                                    th scope="row" {
                                        img src=(data_uri(&case.picture)) alt=(case.image);
                                        b { (case.class) }
                                        small { (case.image) }
                                    }
                                    @for place in &shown {
                                        @if let Some(Some(picture)) = case.maps.get(*place) {
                                            td {
                                                img src=(data_uri(picture)) alt={ "map of " (self.name(*place)) };
                                                span {
                                                    (badge(*place)) " "
                                                    (number(spec, case.values.get(*place).copied().flatten()))
                                                }
                                            }
                                        } @else {
                                            td.none { "not measured" }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
