fn main() {
    std::process::exit(libcontainer_sys::runtime::main(std::env::args().skip(1).collect()));
}
