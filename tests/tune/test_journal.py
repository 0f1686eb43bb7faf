import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import StudyError
from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Begun
from tune.journal import Journal, is_driven, read_driver

HOLD = """
import sys
from pathlib import Path
from pipeline.paths import StudyPaths
from tune.journal import Journal
from tune.scratch import Scratch
scratch = Scratch()
journal = Journal(StudyPaths(Path(sys.argv[1])), str(scratch.root))
print("locked", flush=True)
sys.stdin.read()
"""


def holder(paths: StudyPaths) -> subprocess.Popen[str]:
    """A process that drives the study until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(paths.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_what_was_appended_is_read_back(paths: StudyPaths) -> None:
    with Journal(paths) as journal:
        journal.append(Begun(study="s"))
        assert journal.read() == [Begun(time=journal.read()[0].time, study="s")]


def test_a_torn_line_is_cut_off_before_anything_is_appended(paths: StudyPaths) -> None:
    with Journal(paths) as journal:
        journal.append(Begun(study="s"))
    whole = paths.journal.read_bytes()
    paths.journal.write_bytes(whole + b'{"event": "dra')
    with Journal(paths) as journal:
        journal.append(Begun(study="t"))
        assert [record.study for record in journal.read() if isinstance(record, Begun)] == ["s", "t"]
    assert paths.journal.read_bytes().startswith(whole)


def test_a_study_that_is_running_is_refused_with_how_to_follow_it(tmp_path: Path) -> None:
    paths = Workspace(tmp_path).study("s")
    with holder(paths) as process:
        assert is_driven(paths)
        with pytest.raises(StudyError) as caught:
            Journal(paths)
        process.kill()
    Journal(paths).close()
    assert f"study s is being run on {os.uname().nodename}, process {process.pid}, for 0 min" in str(
        caught.value
    )
    assert f"python -m tune.status --runs {tmp_path} --study s --watch" in str(caught.value)


def test_a_killed_driver_leaves_no_lock(paths: StudyPaths) -> None:
    with holder(paths) as process:
        process.kill()
        process.wait()
        assert not is_driven(paths)
        Journal(paths).close()  # also removes its temporary folder


def scratch_of(paths: StudyPaths) -> Path:
    driver = read_driver(paths)
    assert driver is not None
    return Path(driver.scratch)


def test_the_next_driver_removes_what_a_killed_one_left(paths: StudyPaths) -> None:
    with holder(paths) as process:
        scratch = scratch_of(paths)
        assert scratch.is_dir()
        process.kill()
    Journal(paths).close()
    assert not scratch.exists()


def test_the_next_driver_leaves_the_folder_of_a_living_one(paths: StudyPaths, tmp_path: Path) -> None:
    other = Workspace(tmp_path).study("other")  # of a `--model all`, which goes on with one folder
    with holder(other) as process:
        scratch = scratch_of(other)
        paths.root.mkdir()
        paths.driver.write_bytes(other.driver.read_bytes())
        Journal(paths).close()
        assert scratch.is_dir()
        process.kill()
    Journal(other).close()


def test_a_driver_that_ends_claims_no_folder_any_more(paths: StudyPaths) -> None:
    Journal(paths, scratch="/tmp/ft-mine").close()
    driver = read_driver(paths)
    assert driver is not None
    assert driver.scratch == ""


def test_driver_json_names_this_process(paths: StudyPaths) -> None:
    with Journal(paths):
        driver = read_driver(paths)
        assert driver is not None
        assert driver.pid == os.getpid()
        assert is_driven(paths)


def test_a_full_disk_is_an_error_that_says_what_to_do_and_leaves_no_torn_line(paths: StudyPaths) -> None:
    with Journal(paths) as journal:
        journal.append(Begun(study="s"))
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (paths.journal.stat().st_size + 10, unlimited[1]))
        try:
            with pytest.raises(StudyError, match=r"cannot be written: .*make room and give the same command"):
                journal.append(Begun(study="t"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        journal.append(Begun(study="u"))
        assert [record.study for record in journal.read() if isinstance(record, Begun)] == ["s", "u"]
