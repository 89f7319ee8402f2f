//! Links the program so that it starts with few pages.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The addresses that the loader fills in, in the packed form that glibc 2.36 (Debian 12) reads: megabytes less
    // that are looked through at every start.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
