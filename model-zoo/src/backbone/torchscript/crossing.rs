//! Tensors between Burn and LibTorch.
//!
//! On Burn's LibTorch device a tensor crosses as it is, without a copy. On the CPU it is copied once, from one memory
//! to the other; from other devices it comes by way of the host.

#![allow(deprecated, reason = "Burn 0.22 has deprecated its LibTorch backend, and has no other")]

use burn::backend::libtorch::TchTensor;
use burn::backend::{Flex, LibTorch};
use burn::tensor::{Device, Tensor, TensorData};
use tch::{Kind, TchError};

/// An f32 tensor as LibTorch has it, without a graph. It may share the memory of `x`, which must outlive its use.
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

/// Parts of a batch as one f32 tensor of Burn's, stacked along the first axis; `dims` are those of the whole.
pub fn to_burn<const D: usize>(
    parts: &[tch::Tensor],
    dims: [usize; D],
    device: &Device,
) -> Result<Tensor<D>, TchError> {
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
    let mut rest = &mut values[..];
    for part in parts {
        let count = part.numel();
        let Some((into, behind)) = rest.split_at_mut_checked(count) else {
            return Err(TchError::Shape(format!("more values than {dims:?} holds")));
        };
        own(part)?.f_copy_data(into, count)?;
        rest = behind;
    }
    Ok(Tensor::from_data(TensorData::new(values, dims), device))
}

/// LibTorch's device behind Burn's, if it is one of LibTorch's.
fn torch_device(device: &Device) -> Option<tch::Device> {
    let probe: Tensor<1> = Tensor::empty([0], &device.clone().without_autodiff());
    probe.try_into_primitive::<LibTorch>().ok().map(|own| own.tensor.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers, not all in the order of memory.
    fn numbers(device: &Device) -> Tensor<3> {
        let values: Vec<f32> = (0..24).map(|v| v as f32).collect();
        Tensor::<3>::from_data(TensorData::new(values, [2, 3, 4]), device).swap_dims(1, 2)
    }

    fn devices() -> [Device; 2] {
        [Device::flex(), Device::libtorch()]
    }

    #[test]
    fn values_and_shapes_survive_the_way_there_and_back() {
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
        assert!(to_burn(&[whole], [1, 4, 3], &Device::flex()).is_err());
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
