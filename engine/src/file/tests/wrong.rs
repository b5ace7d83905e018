//! Files that are wrong, and what is said about them, to the letter: in `wrong/*.txt` a case is a file between
//! `===` and `--->`, and what is said about it follows.

use super::check;

/// Holds each case of a file of cases.
fn check_all(cases: &str) {
    let mut checked = 0;
    for case in cases.split("===\n").skip(1) {
        let (text, expected) = case.split_once("\n--->\n").expect("a case has two parts");
        check(&format!("{text}\n"), expected);
        checked += 1;
    }
    assert!(checked > 10, "{checked}");
}

#[test]
fn what_is_no_yaml_says_what_to_write() {
    check_all(include_str!("wrong/yaml.txt"));
}

#[test]
fn unknown_keys_show_the_nearest_and_other_tools_words() {
    check_all(include_str!("wrong/keys.txt"));
}

#[test]
fn values_of_the_wrong_kind_show_the_right_one() {
    check_all(include_str!("wrong/kinds.txt"));
}

#[test]
fn matrices_say_which_axis_value_or_row_is_wrong() {
    check_all(include_str!("wrong/matrices.txt"));
}

#[test]
fn lists_say_what_is_no_list_and_what_cannot_be_mapped() {
    check_all(include_str!("wrong/lists.txt"));
}

#[test]
fn names_that_name_nothing_show_what_is_near() {
    check_all(include_str!("wrong/names.txt"));
}

#[test]
fn placeholders_say_where_they_are_and_what_is_wrong() {
    check_all(include_str!("wrong/placeholders.txt"));
}

#[test]
fn an_empty_file_shows_the_smallest_one() {
    let hint = "hint: the smallest one is: solids: {hello: {command: echo hello, stdout: result}}";
    check("", &format!("p.yaml:1:1: the pipeline file is empty\n{hint}"));
}
