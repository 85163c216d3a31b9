//! The output of a TorchScript.

use tch::{IValue, Kind, TchError, Tensor};

/// Logits, and taps in the order in which the module returns them.
#[derive(Debug)]
pub struct Output {
    /// `[B,K]`
    pub logits: Tensor,
    /// Names and values. A tap of a list has the name that `names` gives, or its number.
    pub taps: Vec<(String, Tensor)>,
}

impl Output {
    /// Parses what the module returned for `batch` images.
    ///
    /// # Errors
    /// A description of what was found instead.
    pub fn parse(value: IValue, names: &[String], batch: usize) -> Result<Self, String> {
        let (logits, taps) = match value {
            IValue::Tensor(logits) => (logits, Vec::new()),
            IValue::Tuple(parts) => match <[IValue; 2]>::try_from(parts) {
                Ok([IValue::Tensor(logits), taps]) => (logits, named(taps, names)?),
                Ok([first, _]) => return Err(format!("a tuple that starts with {}", kind_of(&first))),
                Err(parts) => return Err(format!("a tuple of {}", parts.len())),
            },
            other => return Err(kind_of(&other).into()),
        };
        if !matches!(logits.size()[..], [rows, classes] if rows == batch as i64 && classes > 0) || !is_float(&logits) {
            return Err(format!("logits of shape {:?} and type {}", logits.size(), type_of(&logits)));
        }
        if let Some((name, tap)) =
            taps.iter().find(|(_, tap)| tap.size().first() != Some(&(batch as i64)) || !is_float(tap))
        {
            return Err(format!("tap {name} of shape {:?} and type {}", tap.size(), type_of(tap)));
        }
        Ok(Self { logits, taps })
    }
}

/// The taps that follow the logits.
fn named(value: IValue, names: &[String]) -> Result<Vec<(String, Tensor)>, String> {
    let list = |tensors: Vec<Tensor>| {
        let name = |i: usize| names.get(i).cloned().unwrap_or_else(|| i.to_string());
        tensors.into_iter().enumerate().map(|(i, tensor)| (name(i), tensor)).collect()
    };
    match value {
        IValue::TensorList(tensors) => Ok(list(tensors)),
        IValue::GenericList(values) | IValue::Tuple(values) => {
            let tensor = |value| match value {
                IValue::Tensor(tensor) => Ok(tensor),
                other => Err(format!("logits and a list with {}", kind_of(&other))),
            };
            values.into_iter().map(tensor).collect::<Result<_, _>>().map(list)
        }
        IValue::GenericDict(pairs) => pairs
            .into_iter()
            .map(|pair| match pair {
                (IValue::String(name), IValue::Tensor(tensor)) => Ok((name, tensor)),
                (key, value) => Err(format!("logits and a dict of {} to {}", kind_of(&key), kind_of(&value))),
            })
            .collect(),
        other => Err(format!("logits and {}", kind_of(&other))),
    }
}

fn is_float(tensor: &Tensor) -> bool {
    matches!(tensor.f_kind(), Ok(Kind::Float | Kind::BFloat16 | Kind::Half | Kind::Double))
}

fn type_of(tensor: &Tensor) -> String {
    tensor.f_kind().map_or_else(|_| "unknown".into(), |kind| format!("{kind:?}"))
}

/// The type of a value, in words.
pub fn kind_of(value: &IValue) -> &'static str {
    match value {
        IValue::None => "None",
        IValue::Tensor(_) => "a tensor",
        IValue::Tuple(_) => "a tuple",
        IValue::String(_) => "a string",
        IValue::TensorList(_) | IValue::GenericList(_) => "a list",
        IValue::GenericDict(_) => "a dict",
        IValue::Object(_) => "an object",
        _ => "no tensor",
    }
}

/// LibTorch's error message without its C++ stack trace: the last line before the trace.
pub fn reason(error: &TchError) -> String {
    let text = match error {
        TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    let own = text.lines().take_while(|line| !line.starts_with("Exception raised from"));
    own.map(str::trim).filter(|line| !line.is_empty()).last().unwrap_or("no reason given").to_owned()
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn zeros(size: &[i64]) -> IValue {
        IValue::Tensor(Tensor::zeros(size, (Kind::Float, Device::Cpu)))
    }

    fn names(value: IValue) -> Vec<String> {
        let output = Output::parse(value, &["first".into()], 2).unwrap();
        assert_eq!(output.logits.size(), [2, 5]);
        output.taps.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn every_form_is_parsed() {
        let (logits, tap) = (|| zeros(&[2, 5]), || zeros(&[2, 8, 7, 7]));
        assert!(names(logits()).is_empty());

        assert!(names(IValue::Tuple(vec![logits(), IValue::TensorList(Vec::new())])).is_empty());
        assert_eq!(names(IValue::Tuple(vec![logits(), IValue::Tuple(vec![tap(), tap()])])), ["first", "1"]);
        let dict = IValue::GenericDict(vec![(IValue::String("b".into()), tap()), (IValue::String("a".into()), tap())]);
        assert_eq!(names(IValue::Tuple(vec![logits(), dict])), ["b", "a"]);
    }

    #[test]
    fn other_values_are_described() {
        let found = |value| Output::parse(value, &[], 2).unwrap_err();
        assert_eq!(found(IValue::GenericDict(Vec::new())), "a dict");
        assert_eq!(found(IValue::Tuple(vec![zeros(&[2, 5])])), "a tuple of 1");
        assert_eq!(found(IValue::Tuple(vec![IValue::None, zeros(&[2, 5])])), "a tuple that starts with None");
        assert_eq!(found(IValue::Tuple(vec![zeros(&[2, 5]), zeros(&[2, 5])])), "logits and a tensor");
        for size in [&[2][..], &[3, 5], &[2, 0], &[2, 5, 1]] {
            assert_eq!(found(zeros(size)), format!("logits of shape {size:?} and type Float"));
        }
        let whole = IValue::Tensor(Tensor::zeros([2, 5], (Kind::Int64, Device::Cpu)));
        assert!(found(whole).ends_with("type Int64"));
        let taps = IValue::Tuple(vec![zeros(&[1, 8, 7, 7])]);
        assert_eq!(found(IValue::Tuple(vec![zeros(&[2, 5]), taps])), "tap 0 of shape [1, 8, 7, 7] and type Float");
    }

    #[test]
    fn a_reason_is_one_line() {
        let text = "The following operation failed\nTraceback\n  File \"a.py\", line 3\nRuntimeError: shapes differ\n\
                    Exception raised from meta at x.cpp:1\nframe #0: c10";
        assert_eq!(reason(&TchError::Torch(text.into())), "RuntimeError: shapes differ");
        assert_eq!(reason(&TchError::Torch(String::new())), "no reason given");
    }
}
