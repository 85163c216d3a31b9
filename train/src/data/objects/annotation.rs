//! The annotation of one image, in pixels of the image.

use std::path::PathBuf;

/// What annotation files state about one image: x to the right and y downwards from its upper left corner, in pixels of
/// `size`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Annotation {
    /// Width and height of the annotated image, if stated.
    pub size: Option<[u32; 2]>,
    /// Left, top, right, bottom; the right and lower edges are outside.
    pub boxes: Vec<[f64; 4]>,
    /// Exact outlines of objects.
    pub outlines: Vec<Outline>,
    /// Fixations: x, y.
    pub fixations: Vec<[f64; 2]>,
}

/// The exact outline of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outline {
    /// Corners x, y.
    Polygon(Vec<[f64; 2]>),
    /// Runs of cells outside and inside the object in turn, column by column: the number of cells up to the end of each.
    Runs { width: usize, height: usize, ends: Vec<usize> },
    /// A picture whose pixels are black outside the object.
    Picture(PathBuf),
}

/// The content of annotation files.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Names of images and their annotations; a name may occur several times.
    pub annotations: Vec<(String, Annotation)>,
    /// Entries that make no sense and were left out.
    pub left_out: LeftOut,
}

/// Entries that were left out: how many, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub count: usize,
    pub example: Option<String>,
}

impl LeftOut {
    /// Counts an entry; `problem` names it and says what is wrong.
    pub fn add(&mut self, problem: impl FnOnce() -> String) {
        self.count += 1;
        self.example.get_or_insert_with(problem);
    }
}
