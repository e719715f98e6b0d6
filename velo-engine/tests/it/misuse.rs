#[test]
fn misuses_that_the_types_refuse_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/misuse/*.rs");
}
