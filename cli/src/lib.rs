// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What the VexFS command line tools are made of: the commands, vector files, text passages,
//! embedders, and the printing of names and text that may hold anything.

pub mod arrays;
pub mod collection;
pub mod commands;
pub mod embedder;
pub mod escape;
pub mod failure;
pub mod output;
pub mod passage;
pub mod place;
pub mod program;
pub mod signature;
pub mod size;
pub mod time;
