//! Results that several metrics need, each made once.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Keeps what was computed under a key.
#[derive(Debug, Default)]
pub struct Memo(RefCell<HashMap<(TypeId, String), Rc<dyn Any>>>);

impl Memo {
    /// What is kept under `key`, or what `make` returns, which is kept from then on. Keys of different types do not
    /// meet. `make` may ask the memo for other keys.
    pub fn get<T: 'static>(&self, key: &str, make: impl FnOnce() -> T) -> Rc<T> {
        let key = (TypeId::of::<T>(), key.to_owned());
        let kept = self.0.borrow().get(&key).cloned();
        if let Some(Ok(kept)) = kept.map(Rc::downcast::<T>) {
            return kept;
        }
        let made = Rc::new(make());
        self.0.borrow_mut().insert(key, made.clone());
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_made_once() {
        let memo = Memo::default();
        let mut made = 0;
        for _ in 0..3 {
            let value = memo.get("a", || {
                made += 1;
                *memo.get("inner", || 2_u32) + 1
            });
            assert_eq!(*value, 3);
        }
        assert_eq!(made, 1);
        assert_eq!(*memo.get("a", || "of another type"), "of another type");
        assert_eq!(*memo.get("a", || 9_u32), 3);
    }
}
