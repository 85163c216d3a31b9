//! Objects on photographs, from annotation files: boxes, outlines and points of fixation, brought to the crop that the
//! classifier sees.

mod coco;
mod table;
mod voc;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use explainer_zoo::image::{Placement, Preprocessing, decode, dimensions};

use explainer_metrics::{GroundTruth, PixelBox};

use super::DataError;

/// The colour of pixels that VOC's masks leave undecided.
const VOID: [u8; 3] = [224, 224, 192];

/// What annotation files know of photographs.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    photos: HashMap<String, Photo>,
    /// Names in `photos` by their last part; none where several share it.
    by_file: HashMap<String, Option<String>>,
}

/// What is known of one photograph, in its own pixels: x to the right and y downwards, from its upper left corner.
#[derive(Clone, Debug, Default, PartialEq)]
struct Photo {
    /// Width and height, where the annotations tell.
    size: Option<[u32; 2]>,
    /// Left, top, right, bottom.
    boxes: Vec<[f64; 4]>,
    outlines: Vec<Outline>,
    /// x, y.
    fixations: Vec<[f64; 2]>,
}

/// Where exactly an object is.
#[derive(Clone, Debug, PartialEq)]
enum Outline {
    /// Corners x, y.
    Polygon(Vec<[f64; 2]>),
    /// Cells out of the object and in it in turn, column by column: the numbers of cells up to the end of each run.
    Runs { width: usize, height: usize, ends: Vec<usize> },
    /// A picture whose pixels are black outside the object.
    Picture(PathBuf),
}

impl Objects {
    /// Reads annotations: a CSV file, a COCO file (`.json`), or VOC's (an `.xml` file, or a folder of them).
    ///
    /// - *CSV*: a header, then a line an object. `image` (or `file`, `path`, `filename`), with `xmin`, `ymin`, `xmax`,
    ///   `ymax` of its box, or `mask`, a picture that is black outside the object (relative to the CSV's folder), or
    ///   both, or `x`, `y` of a fixation. Pixels of the upright photograph, the right and lower edge excluded.
    /// - *COCO*: `images` and `annotations` with `bbox` and `segmentation` (polygons or run lengths).
    /// - *VOC*: `filename`, `size` and each `object`'s `bndbox`; its masks, where a folder `SegmentationObject` or
    ///   `SegmentationClass` lies beside the folder of the XML files.
    ///
    /// All objects of an image count, whatever their class.
    ///
    /// # Errors
    /// [`DataError::Objects`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_lowercase();
        let photos = match kind.as_str() {
            _ if path.is_dir() => voc::folder(path),
            "xml" => voc::file(path),
            "json" => coco::read(path),
            "csv" => table::read(path),
            _ => Err("expected a .csv, .json (COCO) or .xml (VOC) file, or a folder of .xml files".into()),
        };
        let photos = photos.map_err(|problem| DataError::Objects { path: path.into(), problem })?;
        let mut objects = Self::default();
        for (name, photo) in photos {
            objects.add(name, photo);
        }
        Ok(objects)
    }

    /// Adds what `other` knows.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        for (name, photo) in other.photos {
            self.add(name, photo);
        }
        self
    }

    fn add(&mut self, name: String, photo: Photo) {
        let file = Path::new(&name).file_name().map_or(name.clone(), |file| file.to_string_lossy().into_owned());
        let same = self.by_file.entry(file).or_insert_with(|| Some(name.clone()));
        if same.as_ref().is_some_and(|other| *other != name) {
            *same = None;
        }
        let known = self.photos.entry(name).or_default();
        known.size = known.size.or(photo.size);
        known.boxes.extend(photo.boxes);
        known.outlines.extend(photo.outlines);
        known.fixations.extend(photo.fixations);
    }

    /// What is known of the photograph at `path`, called `id` in its set, in pixels of its centre crop: by that name,
    /// or else by its file name, if that is unique among the annotations. Nothing, if it is not annotated.
    ///
    /// # Errors
    /// A photograph or mask that cannot be read.
    pub fn truth(&self, id: &str, path: &Path, preprocessing: &Preprocessing) -> Result<GroundTruth, DataError> {
        let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        self.truth_of(&[id], &file, || Ok(dimensions(path)?), preprocessing)
    }

    /// The same of a photograph with several names, of a file of this name, whose width and height `size` finds out.
    pub(super) fn truth_of(
        &self,
        ids: &[&str],
        file: &str,
        size: impl FnOnce() -> Result<[u32; 2], DataError>,
        preprocessing: &Preprocessing,
    ) -> Result<GroundTruth, DataError> {
        let by_file = || self.photos.get(self.by_file.get(file)?.as_ref()?);
        let Some(photo) = ids.iter().find_map(|id| self.photos.get(*id)).or_else(by_file) else {
            return Ok(GroundTruth::default());
        };
        let [width, height] = photo.size.map_or_else(size, Ok)?;
        let view = ExplainerInput { placement: preprocessing.placement(width, height), side: preprocessing.crop };
        let mut mask: Option<Vec<bool>> = None;
        for outline in &photo.outlines {
            let mask = mask.get_or_insert_with(|| vec![false; view.side * view.side]);
            match outline {
                Outline::Polygon(corners) => view.fill(mask, corners),
                Outline::Runs { width: columns, height: rows, ends } => {
                    let inside = |at: usize| {
                        let cell = at % columns * rows + at / columns;
                        ends.partition_point(|end| *end <= cell) % 2 == 1
                    };
                    view.copy(mask, [width, height], [*columns, *rows], inside);
                }
                Outline::Picture(path) => {
                    let picture = decode(path)?;
                    let object = |at: usize| {
                        let colour = picture.as_raw().get(3 * at..3 * at + 3);
                        colour.is_some_and(|colour| colour != [0; 3] && colour != VOID)
                    };
                    view.copy(mask, [width, height], [picture.width() as usize, picture.height() as usize], object);
                }
            }
        }
        let boxes: Vec<PixelBox> = photo.boxes.iter().filter_map(|edges| view.area(*edges)).collect();
        let fixations = photo.fixations.iter().filter_map(|point| view.pixel(*point)).collect();
        let around = || mask.as_deref().and_then(|mask| PixelBox::bounding(mask, view.side)).into_iter().collect();
        let boxes = if photo.boxes.is_empty() { around() } else { boxes };
        // An object that the crop cuts off is none.
        let mask = mask.filter(|mask| mask.contains(&true));
        Ok(GroundTruth { boxes, mask, fixations })
    }
}

/// A crop of a photograph.
#[derive(Clone, Copy, Debug)]
struct ExplainerInput {
    placement: Placement,
    side: usize,
}

impl ExplainerInput {
    /// A point of the photograph in the crop: x, y.
    fn place(self, [x, y]: [f64; 2]) -> [f64; 2] {
        let Placement { scale, offset } = self.placement;
        [x * scale[0] - offset[0], y * scale[1] - offset[1]]
    }

    /// A point of the crop in the photograph.
    fn back(self, [x, y]: [f64; 2]) -> [f64; 2] {
        let Placement { scale, offset } = self.placement;
        [(x + offset[0]) / scale[0], (y + offset[1]) / scale[1]]
    }

    /// The pixels whose centres lie in a box; nothing if there is none in the crop.
    fn area(self, [left, top, right, bottom]: [f64; 4]) -> Option<PixelBox> {
        let [low, high] = [[left, top], [right, bottom]].map(|corner| self.place(corner));
        let edge = |value: f64| (value - 0.5).ceil().clamp(0.0, self.side as f64) as usize;
        let found = PixelBox { left: edge(low[0]), top: edge(low[1]), right: edge(high[0]), bottom: edge(high[1]) };
        (found.area() > 0).then_some(found)
    }

    /// Row and column of the pixel that a point lies in.
    fn pixel(self, point: [f64; 2]) -> Option<[usize; 2]> {
        let [x, y] = self.place(point);
        let within = |value: f64| (value >= 0.0 && value < self.side as f64).then_some(value as usize);
        Some([within(y)?, within(x)?])
    }

    /// Adds the pixels whose centres lie inside a polygon, by the even-odd rule.
    fn fill(self, mask: &mut [bool], corners: &[[f64; 2]]) {
        let corners: Vec<[f64; 2]> = corners.iter().map(|corner| self.place(*corner)).collect();
        let next = corners.iter().cycle().skip(1);
        let edges: Vec<_> = corners.iter().zip(next).collect();
        for (row, line) in mask.chunks_mut(self.side.max(1)).enumerate() {
            let y = row as f64 + 0.5;
            let crossing = |(a, b): &(&[f64; 2], &[f64; 2])| {
                ((a[1] <= y) != (b[1] <= y)).then(|| a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
            };
            let crossings: Vec<f64> = edges.iter().filter_map(crossing).collect();
            for (column, inside) in line.iter_mut().enumerate() {
                let x = column as f64 + 0.5;
                *inside |= crossings.iter().filter(|crossing| **crossing <= x).count() % 2 == 1;
            }
        }
    }

    /// Adds the pixels whose centres lie in flagged cells of a grid of `columns` x `rows` that covers the photograph of
    /// `size` (width, height).
    fn copy(self, mask: &mut [bool], size: [u32; 2], [columns, rows]: [usize; 2], flag: impl Fn(usize) -> bool) {
        for (pixel, inside) in mask.iter_mut().enumerate() {
            let centre = [pixel % self.side, pixel / self.side].map(|at| at as f64 + 0.5);
            let [x, y] = self.back(centre);
            let column = (x / f64::from(size[0]) * columns as f64) as usize;
            let row = (y / f64::from(size[1]) * rows as f64) as usize;
            *inside |= column < columns && row < rows && flag(row * columns + column);
        }
    }
}

#[cfg(test)]
mod tests {
    use explainer_zoo::image::Filter;
    use image::{Rgb, RgbImage};

    use super::*;

    /// A photograph of 20 x 10 becomes 16 x 8, of which columns 4 to 12 are the crop.
    fn preprocessing() -> Preprocessing {
        Preprocessing { resize: 8, crop: 8, filter: Filter::Bilinear, mean: [0.0; 3], std: [1.0; 3] }
    }

    fn written(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        RgbImage::new(20, 10).save(folder.path().join("a.png")).unwrap();
        (folder, path)
    }

    fn rows(mask: &[bool]) -> Vec<String> {
        mask.chunks(8).map(|row| row.iter().map(|inside| if *inside { '#' } else { '.' }).collect()).collect()
    }

    #[test]
    fn boxes_and_fixations_of_a_table_come_to_the_crop() {
        let (folder, path) = written(
            "b.csv",
            "image,xmin,ymin,xmax,ymax,x,y\na.png,5,0,10,5,,\na.png,0,0,5,5,10.1,9.9\na.png,,,,,1,1\n",
        );
        let objects = Objects::open(&path).unwrap();
        let truth = objects.truth("some/a.png", &folder.path().join("a.png"), &preprocessing()).unwrap();
        // x * 0.8 - 4: 5 is 0 and 10 is 4. The second box lies left of the crop, as does the second fixation.
        assert_eq!(truth.boxes, [PixelBox { top: 0, left: 0, bottom: 4, right: 4 }]);
        assert_eq!((truth.fixations, truth.mask), (vec![[7, 4]], None));
        let other = objects.truth("b.png", &folder.path().join("b.png"), &preprocessing()).unwrap();
        assert_eq!(other, GroundTruth::default(), "not annotated, and not looked for");
    }

    #[test]
    fn a_mask_is_a_picture_of_the_whole_photograph() {
        let (folder, path) = written("b.csv", "file,mask\na.png,m.png\n");
        let picture = RgbImage::from_fn(20, 10, |x, y| match (x, y) {
            (10.., 5..) => Rgb([9, 0, 0]),
            (0..10, 5..) => Rgb(VOID),
            _ => Rgb([0; 3]),
        });
        picture.save(folder.path().join("m.png")).unwrap();
        let truth =
            Objects::open(&path).unwrap().truth("a.png", &folder.path().join("a.png"), &preprocessing()).unwrap();
        let dots = vec!["........".to_owned(); 4];
        assert_eq!(rows(truth.mask.as_ref().unwrap()), [dots, vec!["....####".to_owned(); 4]].concat());
        assert_eq!(truth.boxes, [PixelBox { top: 4, left: 4, bottom: 8, right: 8 }]);
    }

    #[test]
    fn coco_has_polygons_and_run_lengths() {
        let file = |segmentation: &str| {
            format!(
                r#"{{"images": [{{"id": 7, "file_name": "a.png", "width": 20, "height": 10}}],
                "annotations": [{{"image_id": 7, "bbox": [5, 0, 5, 5], "segmentation": {segmentation}}}]}}"#
            )
        };
        let mask = |segmentation: &str| {
            let (folder, path) = written("b.json", &file(segmentation));
            let truth = Objects::open(&path).unwrap().truth("a.png", &folder.path().join("a.png"), &preprocessing());
            let truth = truth.unwrap();
            assert_eq!(truth.boxes, [PixelBox { top: 0, left: 0, bottom: 4, right: 4 }]);
            truth.mask
        };
        let square = [vec!["####....".to_owned(); 4], vec!["........".to_owned(); 4]].concat();
        assert_eq!(rows(&mask("[[5, 0, 10, 0, 10, 5, 5, 5]]").unwrap()), square);
        // By columns: 50 cells of the first 5 columns are out, then 5 of each of 5 columns are in.
        let counts = "[50, 5, 5, 5, 5, 5, 5, 5, 5, 5, 105]";
        assert_eq!(rows(&mask(&format!(r#"{{"size": [10, 20], "counts": {counts}}}"#)).unwrap()), square);
        assert_eq!(mask("[]"), None);
    }

    #[test]
    fn voc_has_its_own_way_to_count() {
        let xml = "<annotation><filename>a.png</filename><size><width>20</width><height>10</height></size>\
            <object><name>dog</name><bndbox><xmin>6</xmin><ymin>1</ymin><xmax>10</xmax><ymax>5</ymax></bndbox></object>\
            </annotation>";
        let (folder, path) = written("a.xml", xml);
        for place in [path.as_path(), folder.path()] {
            let truth = Objects::open(place).unwrap().truth("a.png", Path::new("x/a.png"), &preprocessing()).unwrap();
            assert_eq!(
                truth.boxes,
                [PixelBox { top: 0, left: 0, bottom: 4, right: 4 }],
                "1-based, and the last pixel is in"
            );
        }
    }

    #[test]
    fn a_mask_of_voc_lies_beside_the_annotations_whatever_the_name() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["Annotations", "SegmentationObject"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        let inside = root.path().join("SegmentationObject/a.png");
        RgbImage::from_pixel(20, 10, Rgb([9; 3])).save(&inside).unwrap();
        std::fs::copy(&inside, root.path().join("secret.png")).unwrap();
        let outlines = |name: &str| {
            let path = root.path().join("Annotations/a.xml");
            std::fs::write(&path, format!("<annotation><filename>{name}</filename></annotation>")).unwrap();
            Objects::open(&path).unwrap().photos.into_values().next().unwrap().outlines
        };
        assert_eq!(outlines("a.jpg"), [Outline::Picture(inside.clone())]);
        assert_eq!(outlines("x/a.jpg"), [Outline::Picture(inside)]);
        let absolute = root.path().join("secret.jpg").display().to_string();
        for name in ["../secret.jpg", "..", "/", &absolute] {
            assert_eq!(outlines(name), [], "{name}");
        }
    }

    #[test]
    fn runs_over_many_cells_take_no_memory_for_them() {
        let run = r#"{"image_id": 1, "segmentation": {"size": [16384, 16384], "counts": [8192, 268427264]}}"#;
        let text = format!(
            r#"{{"images": [{{"id": 1, "file_name": "a.png", "width": 20, "height": 10}}], "annotations": [{}]}}"#,
            [run; 500].join(",") // 125 GiB with a flag a cell
        );
        let (folder, path) = written("c.json", &text);
        let objects = Objects::open(&path).unwrap();
        assert_eq!(objects.photos["a.png"].outlines.len(), 500);
        let truth = objects.truth("a.png", &folder.path().join("a.png"), &preprocessing()).unwrap();
        assert!(truth.mask.unwrap().iter().all(|inside| *inside));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let problem = |name: &str, text: &str| {
            let (_folder, path) = written(name, text);
            Objects::open(&path).unwrap_err().to_string()
        };
        assert!(
            problem("b.csv", "image,colour\na.png,red\n").contains("b.csv: found the columns image, colour; expected")
        );
        assert!(problem("b.csv", "image,xmin,ymin,xmax,ymax\na.png,1,2,three,4\n").contains("line 2: found `three`"));
        assert!(
            problem("b.csv", "image,xmin,ymin,xmax,ymax\na.png,5,2,3,4\n")
                .contains("line 2: the box ends before it begins")
        );
        assert!(problem("b.json", "{\"images\": 3}").contains("not a COCO file"));
        assert!(problem("b.xml", "<annotation></annotation>").contains("b.xml: found no <filename>"));
        assert!(problem("b.txt", "").contains("expected a .csv, .json (COCO) or .xml (VOC) file"));
        let gone = Objects::open(Path::new("nowhere.csv")).unwrap_err().to_string();
        assert!(gone.contains("nowhere.csv"), "{gone}");
    }

    #[test]
    fn a_file_name_that_several_photographs_have_is_not_guessed() {
        let (folder, path) = written("b.csv", "image,x,y\none/a.png,10,5\nother/a.png,11,5\n");
        let objects = Objects::open(&path).unwrap();
        let fixations =
            |id: &str| objects.truth(id, &folder.path().join("a.png"), &preprocessing()).unwrap().fixations.len();
        assert_eq!([fixations("one/a.png"), fixations("third/a.png")], [1, 0]);
    }
}
