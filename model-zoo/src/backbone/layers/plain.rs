//! Access to the values of a tensor of the CPU backend.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape, Tensor, TensorData};

/// A tensor outside any graph.
pub type Plain = FloatTensor<Flex>;

/// A tensor of these values in row-major order.
pub fn tensor(values: Vec<f32>, shape: Shape) -> Plain {
    Flex::float_from_data(TensorData::new(values, shape), &Default::default())
}

/// The tensor without its graph, if it is one of f32 on this backend.
pub fn plain<const D: usize>(x: &Tensor<D>) -> Option<Plain> {
    let x = (x.dtype() == DType::F32).then(|| x.clone().without_autodiff())?;
    x.try_into_primitive::<Flex>().ok()
}

/// The tensor with its values in row-major order. Consumes `x`, so that a tensor nobody else holds stays writable
/// without a copy.
pub fn contiguous(x: Plain) -> Plain {
    x.to_contiguous()
}

/// The values of a contiguous f32 tensor, from where it starts in its storage.
pub fn values(x: &Plain) -> &[f32] {
    let from = x.layout().start_offset();
    &x.storage::<f32>()[from..from + x.layout().num_elements()]
}

/// As [`values`], to write; copies them first if others share them.
pub fn values_mut(x: &mut Plain) -> &mut [f32] {
    let (from, count) = (x.layout().start_offset(), x.layout().num_elements());
    &mut x.storage_mut::<f32>()[from..from + count]
}
