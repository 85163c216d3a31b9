//! Conversion of tensors between Burn and LibTorch.
//!
//! On Burn's LibTorch device tensors are shared without a copy. On the CPU they are copied once; from other devices they go
//! through host memory.

#![allow(deprecated, reason = "Burn 0.22 has deprecated its LibTorch backend, and has no other")]

use burn::backend::libtorch::TchTensor;
use burn::backend::{Flex, LibTorch};
use burn::tensor::{Device, Tensor, TensorData};
use tch::{Kind, TchError};

use super::shape::check_parts;

/// A tensor of Burn as one of LibTorch's on `device`, without a graph. It may share the memory of `x`, which must outlive it.
pub fn to_torch<const D: usize>(x: &Tensor<D>, device: tch::Device, kind: Kind) -> Result<tch::Tensor, TchError> {
    let shared = match x.clone().try_into_primitive::<LibTorch>() {
        Ok(own) => own.tensor.f_detach()?,
        Err(_) => copied(x)?,
    };
    shared.f_to_device(device)?.f_to_kind(kind)
}

fn copied<const D: usize>(x: &Tensor<D>) -> Result<tch::Tensor, TchError> {
    let dims = x.dims();
    let from = |values: &[f32]| match values.len() == dims.iter().product::<usize>() {
        true => tch::Tensor::f_from_slice(values)?.f_reshape(dims.map(|side| side as i64)),
        false => Err(TchError::Shape(format!("{} values for {dims:?}", values.len()))),
    };
    if let Ok(flex) = x.clone().try_into_primitive::<Flex>()
        && let Some(values) = flex.as_slice::<f32>()
    {
        return from(values);
    }
    let values: Vec<f32> =
        x.to_data().convert::<f32>().try_into_vec().map_err(|e| TchError::Convert(format!("{e:?}")))?;
    from(&values)
}

/// Chunks of a batch, concatenated along the first axis, as an f32 tensor of Burn with the shape `dims`.
///
/// # Errors
/// [`TchError::Shape`] unless every chunk has the shape `dims` but for its first axis, and their first axes add up.
pub fn to_burn<const D: usize>(
    parts: &[tch::Tensor],
    dims: [usize; D],
    device: &Device,
) -> Result<Tensor<D>, TchError> {
    let shapes: Vec<Vec<usize>> = parts.iter().map(sizes).collect();
    check_parts(&shapes, &dims).map_err(TchError::Shape)?;
    let own = |part: &tch::Tensor| part.f_detach()?.f_to_kind(Kind::Float);
    if let Some(place) = torch_device(device) {
        let parts = parts.iter().map(|part| own(part)?.f_to_device(place)).collect::<Result<Vec<_>, _>>()?;
        let whole = match &parts[..] {
            [only] => only.f_contiguous()?,
            _ => tch::Tensor::f_cat(&parts, 0)?.f_contiguous()?,
        };
        return Ok(Tensor::from_primitive::<LibTorch>(TchTensor::new(whole)));
    }
    let mut values = vec![0.0_f32; dims.iter().product()];
    let mut from = 0;
    for part in parts {
        let count = part.numel();
        own(part)?.f_copy_data(&mut values[from..from + count], count)?;
        from += count;
    }
    Ok(Tensor::from_data(TensorData::new(values, dims), device))
}

/// The shape of a tensor.
pub fn sizes(tensor: &tch::Tensor) -> Vec<usize> {
    tensor.size().into_iter().map(|side| usize::try_from(side).unwrap_or(0)).collect()
}

/// LibTorch's device behind one of Burn's; `None` for another backend.
fn torch_device(device: &Device) -> Option<tch::Device> {
    let probe: Tensor<1> = Tensor::empty([0], &device.clone().without_autodiff());
    probe.try_into_primitive::<LibTorch>().ok().map(|own| own.tensor.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in a view that is not contiguous.
    fn numbers(device: &Device) -> Tensor<3> {
        let values: Vec<f32> = (0..24).map(|v| v as f32).collect();
        Tensor::<3>::from_data(TensorData::new(values, [2, 3, 4]), device).swap_dims(1, 2)
    }

    fn devices() -> [Device; 2] {
        [Device::flex(), Device::libtorch()]
    }

    #[test]
    fn values_and_shapes_survive_the_round_trip() {
        for device in devices() {
            let x = numbers(&device);
            for x in [x.clone(), x.clone().narrow(0, 1, 1), x.narrow(1, 1, 2)] {
                let torch = to_torch(&x, tch::Device::Cpu, Kind::Float).unwrap();
                assert_eq!(torch.size(), x.dims().map(|side| side as i64));
                let back = to_burn(&[torch], x.dims(), &device).unwrap();
                assert_eq!(back.into_data(), x.into_data());
            }
        }
    }

    #[test]
    fn parts_are_stacked() {
        for device in devices() {
            let x = numbers(&device);
            let part = |i| to_torch(&x.clone().narrow(0, i, 1), tch::Device::Cpu, Kind::Float).unwrap();
            let back = to_burn(&[part(0), part(1)], x.dims(), &device).unwrap();
            assert_eq!(back.into_data(), x.clone().into_data());
        }
        let x = numbers(&Device::flex());
        let whole = to_torch(&x, tch::Device::Cpu, Kind::Float).unwrap();
        // The same number of values in another shape.
        for dims in [[1, 4, 3], [2, 3, 4], [3, 4, 2]] {
            for device in devices() {
                assert!(to_burn(&[whole.shallow_clone()], dims, &device).is_err(), "{dims:?}");
            }
        }
    }

    #[test]
    fn on_libtorch_nothing_is_copied() {
        let x = numbers(&devices()[1]);
        let own = x.clone().try_into_primitive::<LibTorch>().unwrap().tensor.data_ptr();
        let there = to_torch(&x, tch::Device::Cpu, Kind::Float).unwrap();
        assert_eq!(there.data_ptr(), own);
        let there = there.contiguous();
        let pointer = there.data_ptr();
        let back = to_burn(&[there], x.dims(), &x.device()).unwrap();
        assert_eq!(back.try_into_primitive::<LibTorch>().unwrap().tensor.data_ptr(), pointer);
    }
}
