// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The commands of `vexfs`, one noun or verb a file. Each has its arguments as a `clap` struct and
//! a `run`.

use crate::failure::Outcome;
use clap::{Parser, Subcommand};

pub mod bench;
pub mod bench_ann;
pub mod bench_fs;
pub mod cat;
pub mod collection;
pub mod completions;
pub mod cp;
pub mod dump;
pub mod embed;
pub mod export;
pub mod fsck;
pub mod import;
pub mod info;
pub mod ln;
pub mod ls;
pub mod manual;
pub mod mkdir;
pub mod mkfs;
pub mod mv;
pub mod rm;
pub mod search;
pub mod stat;
pub mod tree;
pub mod vector;

/// Files and vectors in VexFS: copy files in and out, embed them, search them.
///
/// A place is IMAGE:/path, a path in an image file or block device that is not mounted, or a path
/// of this machine that lies on a mounted VexFS, where the kernel does the work. Where a file is
/// called IMAGE:/path, or a directory IMAGE: with its colon, that is meant, unless IMAGE is a file.
///
/// With --json a time is the string of RFC 3339 in UTC, such as "2026-01-31T12:00:00.000000000Z", or
/// outside the years of that "@" and the seconds since 1970. A name or path is the string it is if it is UTF-8. If it is not, the field holds it
/// with its odd bytes written as \xNN, and a further field with `_bytes` behind its name holds all
/// its bytes in hexadecimal (of a list, those of all in the list).
#[derive(Debug, Parser)]
#[command(name = "vexfs", version, arg_required_else_help = true)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `vexfs` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a file system in an image file or on a block device
    #[command(after_help = mkfs::EXAMPLES)]
    Mkfs(mkfs::Arguments),
    /// Checks a file system, and repairs it
    #[command(after_help = fsck::EXAMPLES)]
    Fsck(fsck::Arguments),
    /// Tells what a file system is and how full
    Info(info::Arguments),
    /// Copies files into, out of, or within a VexFS
    Cp(cp::Arguments),
    /// Lists directories
    Ls(ls::Arguments),
    /// Shows everything below a directory
    Tree(tree::Arguments),
    /// Writes the bytes of files to standard output
    Cat(cat::Arguments),
    /// Removes files, and their vectors with them
    Rm(rm::Arguments),
    /// Renames files and directories within a VexFS
    Mv(mv::Arguments),
    /// Makes directories
    Mkdir(mkdir::Arguments),
    /// Makes further names and symbolic links
    Ln(ln::Arguments),
    /// Tells all about files: attributes, names, extended attributes, vectors
    Stat(stat::Arguments),
    /// Makes, lists, shows, drops and rebuilds collections of vectors
    Collection(collection::Arguments),
    /// Stores, prints, lists and removes the vectors of a file
    Vector(vector::Arguments),
    /// Stores a file of vectors and makes each row a vector of it
    Import(import::Arguments),
    /// Writes the vectors of a collection to a .npy file
    Export(export::Arguments),
    /// Gives the passages of text files vectors
    Embed(embed::Arguments),
    /// Finds what is nearest to a text, a file or a vector
    Search(search::Arguments),
    /// Measures searches and files
    Bench(bench::Arguments),
    /// Shows the metadata, for developers
    Dump(dump::Arguments),
    /// Prints the completion script for a shell
    Completions(completions::Arguments),
    /// Writes the manual pages
    Man(manual::Arguments),
}

impl Command {
    /// Does it.
    pub fn run(&self) -> Outcome {
        match self {
            Self::Mkfs(arguments) => arguments.run(),
            Self::Fsck(arguments) => arguments.run(),
            Self::Info(arguments) => arguments.run(),
            Self::Cp(arguments) => arguments.run(),
            Self::Ls(arguments) => arguments.run(),
            Self::Tree(arguments) => arguments.run(),
            Self::Cat(arguments) => arguments.run(),
            Self::Rm(arguments) => arguments.run(),
            Self::Mv(arguments) => arguments.run(),
            Self::Mkdir(arguments) => arguments.run(),
            Self::Ln(arguments) => arguments.run(),
            Self::Stat(arguments) => arguments.run(),
            Self::Collection(arguments) => arguments.run(),
            Self::Vector(arguments) => arguments.run(),
            Self::Import(arguments) => arguments.run(),
            Self::Export(arguments) => arguments.run(),
            Self::Embed(arguments) => arguments.run(),
            Self::Search(arguments) => arguments.run(),
            Self::Bench(arguments) => arguments.run(),
            Self::Dump(arguments) => arguments.run(),
            Self::Completions(arguments) => arguments.run(),
            Self::Man(arguments) => arguments.run(),
        }
    }
}
