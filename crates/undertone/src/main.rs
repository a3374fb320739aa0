fn main() {
    let a: Vec<String> = std::env::args().collect();
    match undertone_model::import::gguf(a[1].as_ref(), a[2].as_ref()) { Ok(r) => println!("{r:?}"), Err(e) => println!("{e} {:?}", e.hint) }
}
