use std::path::PathBuf;

use explainer_zoo::image::Filter;
use image::{Rgb, RgbImage};

use super::*;

/// An image of 20 x 10 becomes 16 x 8, of which columns 4 to 12 are the crop.
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
fn boxes_and_fixations_of_a_csv_file_are_moved_to_the_crop() {
    let (folder, path) =
        written("b.csv", "image,xmin,ymin,xmax,ymax,x,y\na.png,5,0,10,5,,\na.png,0,0,5,5,10.1,9.9\na.png,,,,,1,1\n");
    let objects = Objects::open(&path).unwrap();
    let truth = objects.truth("some/a.png", &folder.path().join("a.png"), &preprocessing()).unwrap();
    // x * 0.8 - 4: 5 is 0 and 10 is 4. The second box lies left of the crop, as does the second fixation.
    assert_eq!(truth.boxes, [PixelBox { top: 0, left: 0, bottom: 4, right: 4 }]);
    assert_eq!((truth.fixations, truth.mask), (vec![[7, 4]], None));
    let other = objects.truth("b.png", &folder.path().join("b.png"), &preprocessing()).unwrap();
    assert_eq!(other, GroundTruth::default(), "not annotated, and not looked for");
}

#[test]
fn a_mask_is_a_picture_of_the_whole_image() {
    let (folder, path) = written("b.csv", "file,mask\na.png,m.png\n");
    let picture = RgbImage::from_fn(20, 10, |x, y| match (x, y) {
        (10.., 5..) => Rgb([9, 0, 0]),
        (0..10, 5..) => Rgb(VOID),
        _ => Rgb([0; 3]),
    });
    picture.save(folder.path().join("m.png")).unwrap();
    let truth = Objects::open(&path).unwrap().truth("a.png", &folder.path().join("a.png"), &preprocessing()).unwrap();
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
fn pixels_of_voc_count_from_1() {
    let xml = "<annotation><filename>a.png</filename><size><width>20</width><height>10</height></size>\
        <object><name>dog</name><bndbox><xmin>6</xmin><ymin>1</ymin><xmax>10</xmax><ymax>5</ymax></bndbox></object>\
        </annotation>";
    let (folder, path) = written("a.xml", xml);
    let image = folder.path().join("a.png");
    for place in [path.as_path(), folder.path()] {
        let truth = Objects::open(place).unwrap().truth("a.png", &image, &preprocessing()).unwrap();
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
        Objects::open(&path).unwrap().annotations.into_values().next().unwrap().outlines
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
    assert_eq!(objects.annotations["a.png"].outlines.len(), 500);
    let truth = objects.truth("a.png", &folder.path().join("a.png"), &preprocessing()).unwrap();
    assert!(truth.mask.unwrap().iter().all(|inside| *inside));
}

#[test]
fn files_that_make_no_sense_are_refused() {
    let problem = |name: &str, text: &str| {
        let (_folder, path) = written(name, text);
        Objects::open(&path).unwrap_err().to_string()
    };
    assert!(problem("b.csv", "image,colour\na.png,red\n").contains("b.csv: found the columns image, colour; expected"));
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
fn a_file_name_of_several_images_is_not_guessed() {
    let (folder, path) = written("b.csv", "image,x,y\none/a.png,10,5\nother/a.png,11,5\n");
    let objects = Objects::open(&path).unwrap();
    let fixations =
        |id: &str| objects.truth(id, &folder.path().join("a.png"), &preprocessing()).unwrap().fixations.len();
    assert_eq!([fixations("one/a.png"), fixations("third/a.png")], [1, 0]);
}

/// The boxes of `a.png`, an image of 20 x 10, and the warnings.
fn boxes(name: &str, text: &str) -> (Vec<PixelBox>, Vec<String>) {
    let (folder, path) = written(name, text);
    let objects = Objects::open(&path).unwrap();
    let truth = objects.truth("val/a.png", &folder.path().join("a.png"), &preprocessing()).unwrap();
    (truth.boxes, objects.warnings())
}

const LEFT: PixelBox = PixelBox { top: 0, left: 0, bottom: 4, right: 4 };

#[test]
fn voc_is_read_as_the_tools_write_it() {
    let object = "<bndbox><xmin>6.0</xmin><ymin>1.0</ymin><xmax> 10.0 </xmax><ymax>5</ymax></bndbox>";
    let part =
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>";
    for text in [
        format!(
            "<annotation verified=\"yes\"><filename xml:space=\"preserve\">a.png</filename><object id='1'>{object}</object></annotation>"
        ),
        format!("<annotation><filename>a</filename><object>{part}{object}</object></annotation>"),
        format!("<annotation><filename>C:\\x\\a.jpg</filename><object>{object}{part}</object></annotation>"),
        format!(
            "\u{feff}<?xml version=\"1.0\"?>\r\n<!DOCTYPE annotation>\r\n<annotation><filename>./a.PNG</filename><size><width>0</width><height>0</height></size><object>{object}</object></annotation>"
        ),
    ] {
        assert_eq!(boxes("a.xml", &text), (vec![LEFT], vec![]), "{text}");
    }
    let (found, warnings) = boxes(
        "a.xml",
        &format!("<annotation><filename>a.png</filename><object/><object>{object}</object></annotation>"),
    );
    assert_eq!(found, [LEFT]);
    assert!(warnings.len() == 1 && warnings[0].contains("1 entry was left out: a.xml: object 0"), "{warnings:?}");
}

#[test]
fn odd_entries_of_coco_are_left_out_and_counted() {
    let file = |image: &str, annotations: &str| {
        let good = r#"{"id": 1, "image_id": 7, "bbox": [5, 0, 5, 5]}"#;
        format!(r#"{{"images": [{image}], "annotations": [{good}{annotations}]}}"#)
    };
    let image = r#"{"id": 7, "file_name": "a.png", "width": 20, "height": 10}"#;
    for (annotations, problem) in [
        (r#", {"id": 2, "image_id": 7, "bbox": []}"#, "annotation 1 (id 2): its bbox is []"),
        (r#", {"id": 2, "image_id": null, "bbox": [1, 1, 2, 2]}"#, "annotation 1 (id 2): no image has the id null"),
        (r#", {"id": 2, "image_id": 8, "bbox": [1, 1, 2, 2]}"#, "no image has the id 8"),
        (r#", {"id": 2, "image_id": 7, "segmentation": [[1, 1, 2, 2]]}"#, "fewer than three corners"),
        (r#", {"id": 2, "image_id": 7, "bbox": [1, 1, -2, 2]}"#, "its bbox is [1,1,-2,2]"),
        (r#", {"id": 2, "image_id": 7, "segmentation": {"size": [10, 20], "counts": "X"}}"#, "run lengths are broken"),
        (r#", {"id": 2, "image_id": 7, "segmentation": {"size": [10, 20], "counts": [3]}}"#, "do not add up"),
        (r#", {"id": 2, "image_id": 7, "segmentation": 3}"#, "neither polygons nor run lengths"),
        (", null", "annotation 1 is no set of keys"),
    ] {
        let (found, warnings) = boxes("b.json", &file(image, annotations));
        assert_eq!(found, [LEFT], "{annotations}");
        assert!(warnings.len() == 1 && warnings[0].contains(problem), "{annotations}: {warnings:?}");
    }
    for image in [
        r#"{"id": "7", "file_name": "images/a.png", "width": 20.0, "height": "10"}"#,
        r#"{"id": 7.0, "file_name": "images\\a.jpg", "width": null}"#,
    ] {
        let crowd = r#", {"id": "x", "image_id": 7, "iscrowd": 1, "segmentation": null}"#;
        assert_eq!(boxes("b.json", &file(image, crowd)), (vec![LEFT], vec![]), "{image}");
    }
}

#[test]
fn a_csv_file_is_read_as_spreadsheets_write_it() {
    for text in [
        "\u{feff}image,xmin,ymin,xmax,ymax\r\n\"a.png\",\"5\",0,10,5\r\n",
        "Image;xmin;ymin;xmax;ymax\r\na.png;5;0;10;5\r\n",
        "image\txmin\tymin\txmax\tymax\na.png\t5\t0\t10\t5\n",
    ] {
        assert_eq!(boxes("b.csv", text), (vec![LEFT], vec![]), "{text:?}");
    }
    let utf16: Vec<u8> = "\u{feff}image,x,y".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(text(&utf16), "image,x,y");
}

#[test]
fn annotations_without_images_are_warned_of_with_an_example_of_each_side() {
    let (folder, path) = written("b.csv", "image,x,y\nother.png,1,1\n");
    let objects = Objects::open(&path).unwrap();
    assert!(objects.warnings().is_empty());
    objects.truth("val/a.png", &folder.path().join("a.png"), &preprocessing()).unwrap();
    let warnings = objects.warnings();
    let expected = "0 of 1 images have annotations, `val/a.png` for one has none; the annotations name images such as \
                    `other.png`";
    assert_eq!(warnings, [expected]);
}

#[test]
fn an_image_whose_size_contradicts_its_annotation_has_no_ground_truth() {
    let file = |width: u32, height: u32| {
        format!(
            r#"{{"images": [{{"id": 7, "file_name": "a.png", "width": {width}, "height": {height}}}],
            "annotations": [{{"image_id": 7, "bbox": [0, 0, {width}, {height}]}}]}}"#
        )
    };
    for (width, height) in [(10, 20), (20, 20), (4000, 300)] {
        let (found, warnings) = boxes("b.json", &file(width, height));
        assert!(found.is_empty() && warnings.len() == 1, "{warnings:?}");
        let expected = format!("`val/a.png` has 20 x 10 pixels, its annotation is for {width} x {height}");
        assert!(warnings[0].contains(&expected), "{warnings:?}");
    }
    // Resized copies of the annotated images are measured.
    for (width, height) in [(20, 10), (640, 320), (641, 320)] {
        assert_eq!(boxes("b.json", &file(width, height)).0.len(), 1, "{width} x {height}");
    }
}
