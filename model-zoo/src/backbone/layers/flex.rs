//! Access to the values of tensors of Burn's CPU backend, Flex.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape, Tensor, TensorData};

/// A tensor of the Flex backend, without an autodiff graph.
pub type FlexTensor = FloatTensor<Flex>;

/// A tensor with these values in row-major order.
pub fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    Flex::float_from_data(TensorData::new(values, shape), &Default::default())
}

/// The tensor without its graph; `None` unless it is f32 on the Flex backend.
pub fn to_flex<const D: usize>(x: &Tensor<D>) -> Option<FlexTensor> {
    let x = (x.dtype() == DType::F32).then(|| x.clone().without_autodiff())?;
    x.try_into_primitive::<Flex>().ok()
}

/// The tensor with its values in row-major order. It consumes `x`, so that a tensor with a single owner stays writable
/// without a copy.
pub fn contiguous(x: FlexTensor) -> FlexTensor {
    x.to_contiguous()
}

/// The values of a contiguous f32 tensor.
pub fn values(x: &FlexTensor) -> &[f32] {
    let from = x.layout().start_offset();
    &x.storage::<f32>()[from..from + x.layout().num_elements()]
}

/// [`values`] for writing; copies them first if they are shared.
pub fn values_mut(x: &mut FlexTensor) -> &mut [f32] {
    let (from, count) = (x.layout().start_offset(), x.layout().num_elements());
    &mut x.storage_mut::<f32>()[from..from + count]
}
