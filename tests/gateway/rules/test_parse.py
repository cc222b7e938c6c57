"""Every fault of a document at once, each with its line; and YAML as people expect it."""

import json
import textwrap

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.rules.build import check
from gateway.rules.model import Document, json_schema
from gateway.rules.parse import parse
from gateway.rules.source import Source

BROKEN = """\
clusters:
  a: {servic: x}
  b: {instances: ["h:1"], timeout_s: -1}
rules:
  - name: one
    match:
      path: /x
      headers: {x-a: 1, x-b: [2]}
      metods: [GET]
    forward: a
  - match: {path: /y}
    forward: b
  - name: three
    match: {path: y}
    forward: bb
    auth: nope
  - name: four
    forward: {b: 1, c: -2}
  - just a word
ruels: []
"""
FAULTS = [
    "r.yaml:2: cluster 'a': unknown field 'servic', did you mean 'service'?",
    "r.yaml:3: cluster 'b': timeout_s: expected float > 0.0",
    "r.yaml:8: rule 'one': match.headers.x-a: expected str | mapping, got int",
    "r.yaml:8: rule 'one': match.headers.x-b: expected str | mapping, got array",
    "r.yaml:9: rule 'one': unknown field 'match.metods', did you mean 'methods'?",
    "r.yaml:11: rules[1]: 'name' is missing",
    "r.yaml:14: rule 'three': path 'y' must start with '/'",
    "r.yaml:15: rule 'three': cluster 'bb' is not known, did you mean 'b'?",
    "r.yaml:16: rule 'three': auth policy 'nope' is not known",
    "r.yaml:18: rule 'four': forward.c: expected int >= 0",
    "r.yaml:19: rules[4]: expected mapping, got str",
    "r.yaml:20: unknown section 'ruels', did you mean 'rules'?",
]


def test_every_fault_is_said_at_once_with_its_line():
    _, findings = check(BROKEN.encode(), "r.yaml")
    assert [str(finding) for finding in findings] == FAULTS


def test_a_rule_among_the_golden_requests_is_told_where_it_belongs():
    text = b"golden:\n- {name: hello, match: {path: /hello}, reply: {body: hi}}\n"
    said = [str(finding) for finding in check(text, "r.yaml")[1]]
    assert any("golden[0] (a rule? it belongs under rules)" in line for line in said)
    assert not any("did you mean 'name'" in line for line in said)


def read(text: str):
    source = Source(textwrap.dedent(text).encode(), "r.yaml")
    return source.data, [str(fault) for fault in source.faults]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: [", "r.yaml:2: not valid YAML"),
        ("a:\n\t- 1", "r.yaml:2: not valid YAML"),
        ("a: 1\nb: 2\na: 3", "r.yaml:3: 'a' is given twice"),
        ("a: 1\n? [x]\n: 2", "r.yaml:2: a key must be a string"),
        ("", "r.yaml:1: the document is empty"),
        ("# only this", "r.yaml:1: the document is empty"),
        ("a: 1\n<<: 3", "r.yaml:2: '<<' takes a mapping"),
        ("a: 1\n---\nb: 2", "r.yaml:2: not valid YAML"),
        ("a: !!int x", "r.yaml:1: 'x' is no int"),
    ],
)
def test_broken_yaml_names_its_line(text, fault):
    _, faults = read(text)
    assert len(faults) == 1
    assert faults[0].startswith(fault)


def test_bytes_that_are_not_utf8_name_their_line():
    source = Source(b"a: 1\nb: \xff\n", "r.yaml")
    assert [str(fault) for fault in source.faults] == ["r.yaml:2: not UTF-8 text"]


def test_scalars_mean_what_yaml_1_2_says():
    data, faults = read(
        """
        time: 20:00
        switch: on
        date: 2030-01-01
        int: 12
        float: 1e3
        yes: true
        none: ~
        empty:
        text: "12"
        """
    )
    assert not faults
    assert data == {
        "time": "20:00",
        "switch": "on",
        "date": "2030-01-01",
        "int": 12,
        "float": 1000.0,
        "yes": True,
        "none": None,
        "empty": None,
        "text": "12",
    }


def test_anchors_and_merges_work():
    data, faults = read("base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}\n")
    assert not faults
    assert data["more"] == {"x": 1, "y": 3}


@pytest.mark.slow
def test_anchors_that_expand_without_end_are_a_fault_and_not_a_hang():
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12))
    _, faults = read("l0: &l0 [x]\n" + levels)
    assert len(faults) == 1
    assert "anchors that expand without end" in faults[0]


def test_json_is_accepted():
    text = json.dumps(
        {"clusters": {"a": {"service": "a"}}, "rules": [{"name": "x", "forward": "a"}]}
    )
    document, findings = check(text.encode(), "r.json")
    assert not findings
    assert document.rules[0].weights == {"a": 1}


def test_a_document_that_is_no_mapping_is_one_fault():
    _, findings = check(b"- 1\n- 2\n", "r.yaml")
    assert [str(f) for f in findings] == ["r.yaml:1: a document is a mapping of sections"]


@given(st.text(alphabet="ab:{}[]-,&*<'\"\n #!|>?%@`\t1.", max_size=60))
def test_no_text_makes_the_reader_fail_in_another_way(text):
    document, faults = parse(Source(text.encode(), "r.yaml"))
    lines = len(text.splitlines()) or 1
    assert isinstance(document, Document)
    assert all(1 <= fault.line <= lines for fault in faults)


DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["a", "/x", "GET"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "match", "forward", "path", "headers", "x"]), inner
        )
    ),
    max_leaves=8,
)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(DATA, max_size=3), st.dictionaries(st.sampled_from(["a", "b!"]), DATA))
def test_whatever_the_data_each_item_is_read_or_has_a_fault(rules, clusters):
    text = json.dumps({"rules": rules, "clusters": clusters}).encode()
    document, faults = parse(Source(text, "r.json"))
    assert isinstance(document, Document)
    assert len(document.rules) == len(rules)
    assert all(fault.line == 1 and fault.reason for fault in faults)


def test_the_published_schema_accepts_what_the_model_accepts():
    validator = jsonschema_rs.Draft202012Validator(json_schema())
    good = {"clusters": {"a": {"service": "a"}}, "rules": [{"name": "x", "forward": {"a": 1}}]}
    assert validator.is_valid(good)
    assert not validator.is_valid({"rules": [{"forward": "a"}]})
    assert not validator.is_valid({"ruels": []})
