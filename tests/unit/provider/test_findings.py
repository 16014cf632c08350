from centcert.provider.findings import MAX_FINDINGS, Findings


def test_what_strangers_cause_leaves_room_for_what_is_wrong_with_the_node():
    """Guards: made-up names in a denied folder filled the list, and nothing else was found."""
    findings = Findings("memory:")
    for number in range(MAX_FINDINGS + 5):
        findings.find("file-denied", f"{number}.pfx", "denied", 0.0)
    assert len(findings.now()) == MAX_FINDINGS
    findings.find("copies-unwritten", "/state", "the disk is full", 0.0)
    assert findings.has("copies-unwritten", "/state")
