// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Heapsort: in place, no allocation, no recursion, and no panic whatever `before` answers.
//! (The library's sorts may panic when an order is not total.)

/// Sorts `items` so that no item is `before` the one in front of it. Not stable.
pub fn sort_by<T>(items: &mut [T], mut before: impl FnMut(&T, &T) -> bool) {
    let length = items.len();
    for root in (0..length / 2).rev() {
        sift_down(items, root, &mut before);
    }
    for end in (1..length).rev() {
        if let Some(heap) = items.get_mut(..=end)
            && let [first, .., last] = heap
        {
            core::mem::swap(first, last);
        }
        if let Some(heap) = items.get_mut(..end) {
            sift_down(heap, 0, &mut before);
        }
    }
}

/// Moves the item at `root` of a max-heap down to where no child comes after it.
fn sift_down<T>(heap: &mut [T], mut root: usize, before: &mut impl FnMut(&T, &T) -> bool) {
    loop {
        let mut child = 2 * root + 1;
        let Some(left) = heap.get(child) else { return };
        if let Some(right) = heap.get(child + 1)
            && before(left, right)
        {
            child += 1;
        }
        let (Some(parent), Some(larger)) = (heap.get(root), heap.get(child)) else { return };
        if !before(parent, larger) {
            return;
        }
        if let Some((front, back)) = heap.split_at_mut_checked(child)
            && let (Some(a), Some(b)) = (front.get_mut(root), back.first_mut())
        {
            core::mem::swap(a, b);
        }
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn it_sorts_every_length_and_survives_an_order_that_lies() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 40
        };
        for length in 0..200 {
            let mut items: Vec<u64> = (0..length).map(|_| next()).collect();
            let mut expected = items.clone();
            expected.sort_unstable();
            sort_by(&mut items, |a, b| a < b);
            assert_eq!(items, expected);
            sort_by(&mut items, |_, _| next() & 1 == 0);
        }
    }
}
