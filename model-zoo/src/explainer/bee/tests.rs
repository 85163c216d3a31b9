//! BEE as a whole, on the quickstart's classifier.

use super::*;
use crate::backbone::load;
use crate::device::Compute;
use crate::path_integral::integrated_gradients;
use crate::weights::random;
use burn::tensor::Device;

const SIDE: usize = 96;

fn noise(name: &str, count: usize) -> Tensor<4> {
    let values = random::uniform(1, name, count * 3 * SIDE * SIDE).into_iter().map(|u| 2.0 * u - 1.0).collect();
    Tensor::from_data(TensorData::new(values, [count, 3, SIDE, SIDE]), &Device::default())
}

fn values(tensor: Tensor<4>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().unwrap()
}

fn bee(sites: &[&str], seed: u64) -> Bee {
    let backbone = Arc::new(load("shapes_resnet", "embedded", None, &Compute::default(), &mut |_, _| {}).unwrap());
    let sites = sites.iter().map(|name| PathLayer::named(backbone.as_ref(), name, SIDE).unwrap()).collect();
    let encoder = Encoder::new(backbone.clone(), SIDE).unwrap();
    let integral = PathIntegral { steps: 2, rectify: true, points_per_call: 6 };
    Bee::new(backbone, sites, &noise("train", 2), encoder, integral, seed).unwrap()
}

fn mixtures(bee: &Bee, metrics: &[RewardMetric]) -> Mixtures {
    let config = MixtureConfig { dimensions: 10, ..MixtureConfig::new(bee.encoder().features()) };
    Mixtures::prior(metrics, &config, 0)
}

/// Each map's mean: a score that any map has.
fn means(maps: &Tensor<4>) -> Vec<f64> {
    values(maps.clone()).chunks(SIDE * SIDE).map(|map| f64::from(map.iter().sum::<f32>()) / map.len() as f64).collect()
}

/// The same as a metric that is defined on every map gives them.
fn scores(maps: &Tensor<4>) -> Result<Vec<Option<f64>>, BeeError> {
    Ok(means(maps).into_iter().map(Some).collect())
}

fn pick(image: usize, family: BaselineDistribution, number: u64) -> BaselineDraw<'static> {
    BaselineDraw { image, family, purpose: "test", number }
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let off = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
    assert!(off < 1e-3, "{what}: {off} off");
}

#[test]
fn a_map_is_that_of_its_pick_whatever_else_is_drawn() {
    let bee = bee(&["layer2"], 1);
    let seen = bee.clean_pass(noise("images", 2), None);
    assert_eq!((seen.classes.len(), seen.features.len(), seen.features[0].len()), (2, 2, 128));
    let picks = [
        pick(0, BaselineDistribution::Blur, 3),
        pick(1, BaselineDistribution::Normal, 4),
        pick(1, BaselineDistribution::TrainData, 4),
    ];
    let maps = bee.maps(&seen, &picks);
    assert_eq!(maps.dims(), [3, 1, SIDE, SIDE]);
    for (i, pick) in picks.iter().enumerate() {
        let alone = values(bee.maps(&seen, &[*pick]));
        assert_close(&values(maps.clone().narrow(0, i, 1)), &alone, &format!("{pick:?}"));
    }
    let other = BaselineDraw { number: 5, ..picks[1] };
    assert_ne!(values(bee.maps(&seen, &[other])), values(maps.clone().narrow(0, 1, 1)), "another draw");
    // The image alone is the image of the batch.
    let first = bee.clean_pass(noise("images", 2).narrow(0, 0, 1), Some(&[seen.classes[0]]));
    assert_close(&values(bee.maps(&first, &picks[..1])), &values(maps.narrow(0, 0, 1)), "alone in its batch");
    assert_eq!(bee.passes(100), 200);
}

#[test]
fn several_sites_give_the_mean_of_their_maps() {
    let (both, image, tap) = (bee(&["image", "layer2"], 1), bee(&["image"], 1), bee(&["layer2"], 1));
    let picks = [pick(0, BaselineDistribution::Constant, 0)];
    let maps = |bee: &Bee| bee.maps(&bee.clean_pass(noise("images", 1), None), &picks);
    assert_eq!(both.passes(1), 4);
    // What is drawn at a site does not depend on what other sites there are.
    assert_close(&values(maps(&both)), &values(min_max(maps(&image) + maps(&tap))), "the mean, stretched");
}

#[test]
fn without_rectification_a_fixed_baseline_is_integrated_gradients() {
    let bee = bee(&["image"], 1);
    let images = noise("images", 2);
    let seen = bee.clean_pass(images.clone(), None);
    let integral = PathIntegral { steps: 3, rectify: false, points_per_call: 4 };
    let class: Vec<i64> = seen.classes.iter().map(|class| *class as i64).collect();
    let class = Tensor::<1, Int>::from_data(TensorData::new(class, [2]), &Device::default());
    let black = noise("fixed", 1);
    let own = heat_maps(
        integral.maps(
            bee.backbone().as_ref(),
            &PathLayer::Image,
            &images,
            &class,
            &seen.ends[0],
            &black.clone().repeat_dim(0, 2),
        ),
        [SIDE; 2],
    );
    assert_close(
        &values(integrated_gradients(bee.backbone().as_ref(), &images, &class, &black, 3)),
        &values(own),
        "IG",
    );
}

#[test]
fn an_explanation_is_the_best_of_its_draws() {
    let bee = bee(&["layer2"], 5);
    let seen = bee.clean_pass(noise("images", 2), None);
    for metric in [RewardMetric::Ins, RewardMetric::Del] {
        let mixtures = mixtures(&bee, &[metric]);
        let mixture = mixtures.of(metric).unwrap();
        for mode in [Mode::Pretrained, Mode::FineTuned] {
            let (mut all, mut calls) = (Vec::new(), Vec::new());
            let score = |maps: &Tensor<4>| {
                calls.push(maps.dims()[0]);
                all.extend(means(maps));
                scores(maps)
            };
            let best = bee.explain(mixture, &seen, 1, 7, mode, score).unwrap();
            let expected = if metric == RewardMetric::Ins { f64::max } else { f64::min };
            assert_eq!(best.score, all.iter().copied().reduce(expected).unwrap(), "{metric} {mode:?}");
            assert_eq!(all[best.draw], best.score);
            assert_eq!(means(&best.map), [best.score]);
            assert_eq!(best.plays.iter().sum::<usize>(), 7);
            assert!(best.plays[best.family as usize] > 0);
            // Six points a call are three draws of two steps; fine-tuning learns from each before the next.
            assert_eq!(calls, if mode == Mode::Pretrained { vec![3, 3, 1] } else { vec![1; 7] });

            let again = bee.explain(mixture, &seen, 1, 7, mode, scores).unwrap();
            assert_eq!((again.score, again.draw, values(again.map)), (best.score, best.draw, values(best.map)));
        }
        assert_eq!(mixtures.of(metric).unwrap().lessons(), 0, "fine-tuning is for one image alone");
    }
}

#[test]
fn a_fixed_family_is_the_only_one_that_is_played() {
    let bee = bee(&["layer2"], 5);
    let seen = bee.clean_pass(noise("images", 1), None);
    let mixtures = mixtures(&bee, &[RewardMetric::Ins]);
    let mixture = mixtures.of(RewardMetric::Ins).unwrap();
    for family in BaselineDistribution::ALL {
        assert_eq!(family.name().parse(), Ok(family));
        let best = bee.explain(mixture, &seen, 0, 3, Mode::Fixed(family), scores).unwrap();
        assert_eq!((best.family, best.plays[family as usize]), (family, 3));
        // With the same number, the baseline that the mixture would have played of this family.
        let own = bee.maps(&seen, &[BaselineDraw { purpose: "explain", ..pick(0, family, best.draw as u64) }]);
        assert_close(&values(best.map), &values(own), family.name());
    }
    let message = "black".parse::<BaselineDistribution>().unwrap_err().to_string();
    assert!(message.contains("black") && message.contains("train-data"), "{message}");
}

#[test]
fn a_constant_map_is_the_best_only_if_all_are() {
    let rank = |varies, score| Rank { varies, score };
    for metric in [RewardMetric::Ins, RewardMetric::Del] {
        let (good, bad) = if metric == RewardMetric::Ins { (0.9, 0.1) } else { (0.1, 0.9) };
        assert!(rank(true, bad).is_ahead_of(rank(false, good), metric));
        assert!(!rank(false, good).is_ahead_of(rank(true, bad), metric));
        for varies in [true, false] {
            assert!(rank(varies, good).is_ahead_of(rank(varies, bad), metric));
            assert!(!rank(varies, good).is_ahead_of(rank(varies, good), metric), "of equals the first");
        }
    }
    let maps = Tensor::cat(
        vec![
            Tensor::full([1, 1, 2, 2], 0.5, &Device::flex()),
            noise("map", 1).narrow(1, 0, 1).slice([0..1, 0..1, 0..2, 0..2]),
        ],
        0,
    );
    assert_eq!(contrasts(&maps), [false, true]);

    // Of a plain image every baseline is the image itself.
    let bee = bee(&["image"], 3);
    let seen = bee.clean_pass(Tensor::zeros([1, 3, SIDE, SIDE], &Device::flex()), None);
    let mixtures = mixtures(&bee, &[RewardMetric::Ins]);
    let best = bee
        .explain(mixtures.of(RewardMetric::Ins).unwrap(), &seen, 0, 3, Mode::Fixed(BaselineDistribution::Blur), scores)
        .unwrap();
    assert_eq!((contrasts(&best.map), best.draw), (vec![false], 0));
}

/// Scores tell the family: `Blur` is good and the others are bad.
#[test]
fn fine_tuning_plays_the_family_that_scores() {
    let seen = bee(&["layer3"], 0).clean_pass(noise("images", 1), None);
    let played = |mode| -> usize {
        let of_seed = |seed| {
            let bee = bee(&["layer3"], seed);
            let mixtures = mixtures(&bee, &[RewardMetric::Ins]);
            let mut number = 0;
            let score = |maps: &Tensor<4>| {
                let own = |map: &[f32]| {
                    let blurred = values(bee.maps(
                        &seen,
                        &[BaselineDraw { purpose: "explain", ..pick(0, BaselineDistribution::Blur, number) }],
                    ));
                    number += 1;
                    let off = map.iter().zip(blurred).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    Some(if off < 1e-3 { 1.0 } else { -f64::from(off) })
                };
                Ok::<_, BeeError>(values(maps.clone()).chunks(SIDE * SIDE).map(own).collect())
            };
            let mixture = mixtures.of(RewardMetric::Ins).unwrap();
            bee.explain(mixture, &seen, 0, 40, mode, score).unwrap().plays[BaselineDistribution::Blur as usize]
        };
        (0..3).map(of_seed).sum()
    };
    let (pretrained, tuned) = (played(Mode::Pretrained), played(Mode::FineTuned));
    assert!(tuned > pretrained + 12, "{tuned} of 120 draws fine-tuned, {pretrained} from the prior");
}

#[test]
fn a_lesson_for_every_image_and_metric_and_the_same_again_by_seed() {
    let run = |seed: u64, split: bool| {
        let bee = bee(&["layer2"], seed);
        let mut mixtures = mixtures(&bee, &[RewardMetric::Del, RewardMetric::Ins, RewardMetric::Adp]);
        let mut lessons = Vec::new();
        for batch in 0..3 {
            let seen = bee.clean_pass(noise(&format!("batch {batch}"), 2), None);
            lessons.extend(bee.learn(&mut mixtures, &seen, 2 * batch, |_, maps| scores(maps)).unwrap());
            if split {
                mixtures = Mixtures::from_bytes(&mixtures.to_bytes().unwrap(), "checkpoint").unwrap();
            }
        }
        (mixtures, lessons)
    };
    let (mixtures, lessons) = run(1, false);
    assert_eq!(lessons.len(), 3 * 2 * 3);
    assert!(mixtures.iter().all(|mixture| mixture.lessons() == 6));
    assert_eq!(run(1, false), (mixtures.clone(), lessons.clone()), "the same seed");
    assert_eq!(run(1, true), (mixtures.clone(), lessons), "resumed from a checkpoint after every batch");
    assert_ne!(run(2, false).0, mixtures, "another seed");
}

#[test]
fn metrics_that_choose_one_family_share_its_map() {
    let bee = bee(&["layer2"], 1);
    let seen = bee.clean_pass(noise("images", 3), None);
    let mut mixtures = mixtures(&bee, &RewardMetric::ALL);
    let mut scored = Vec::new();
    let lessons = bee
        .learn(&mut mixtures, &seen, 40, |metric, maps| {
            scored.push((metric, values(maps.clone())));
            scores(maps)
        })
        .unwrap();
    assert_eq!(scored.iter().map(|(metric, _)| *metric).collect::<Vec<_>>(), RewardMetric::ALL);
    for lesson in &lessons {
        assert!((0.0..=1.0).contains(&lesson.rank), "{lesson:?}");
    }
    // Every map is that of its image and of the family that was played.
    for ((_, maps), lessons) in scored.iter().zip(lessons.chunks(3)) {
        for (image, (map, lesson)) in maps.chunks(SIDE * SIDE).zip(lessons).enumerate() {
            let number = 40 + image as u64;
            let own = bee.maps(&seen, &[BaselineDraw { image, family: lesson.family, purpose: "train", number }]);
            assert_close(map, &values(own), &format!("{lesson:?}"));
        }
    }
}

#[test]
fn what_cannot_be_scored_is_a_clear_error() {
    let bee = bee(&["layer3"], 1);
    let seen = bee.clean_pass(noise("images", 1), None);
    let mut mixtures = mixtures(&bee, &[RewardMetric::Ins]);
    let prior = mixtures.clone();
    let mixture = mixtures.of(RewardMetric::Ins).unwrap();
    type Score<'a> = &'a dyn Fn(&Tensor<4>) -> Vec<Option<f64>>;
    let explain = |draws, score: Score<'_>| {
        bee.explain(mixture, &seen, 0, draws, Mode::Pretrained, |maps| Ok(score(maps))).map(|best| best.draw)
    };
    let metric = RewardMetric::Ins;
    assert_eq!(explain(0, &|_| vec![]), Err(BeeError::NoDraws));
    assert_eq!(explain(4, &|_| vec![Some(0.5)]), Err(BeeError::Scores { metric, found: 1, expected: 3 }));
    assert_eq!(explain(3, &|_| vec![None; 3]), Err(BeeError::Unscored { metric, draws: 3 }));
    assert_eq!(explain(3, &|_| vec![None, Some(0.2), Some(0.1)]), Ok(1), "an undefined score is never the best");
    assert!(explain(1, &|_| vec![Some(f64::NAN)]).unwrap_err().to_string().contains("INS scored a map NaN"));
    assert!(bee.learn::<BeeError>(&mut mixtures, &seen, 0, |_, _| Ok(vec![Some(f64::INFINITY)])).is_err());
    assert!(bee.learn::<BeeError>(&mut mixtures, &seen, 0, |_, _| Ok(vec![])).is_err());
    assert_eq!(bee.learn::<BeeError>(&mut mixtures, &seen, 0, |_, _| Ok(vec![None])), Ok(vec![]));
    assert_eq!(mixtures, prior);
    let none = Tensor::zeros([0, 3, SIDE, SIDE], &Device::default());
    let error =
        Bee::new(bee.backbone.clone(), bee.sites.clone(), &none, bee.encoder.clone(), bee.integral, 0).unwrap_err();
    assert_eq!(error, BeeError::NoReferences);
}
