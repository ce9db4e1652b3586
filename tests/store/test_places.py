"""From a URL to its store."""

import pytest

from blocksnapd.errors import UsageError
from blocksnapd.model import Access
from blocksnapd.store.files import LocalStore
from blocksnapd.store.places import open_store, own_directories
from blocksnapd.store.steady import SteadyStore


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_a_directory_is_opened_and_is_this_hosts_own(tmp_path, form):
    url = form.format(tmp_path)
    store = open_store(url)
    assert isinstance(store, LocalStore)
    assert store.url == str(tmp_path)
    assert own_directories(url) == (str(tmp_path),)


def test_what_is_not_known_is_refused_and_fills_nothing_here():
    with pytest.raises(UsageError, match="gopher"):
        open_store("gopher://host/x")
    assert own_directories("s3://bucket/prefix") == ()


def test_a_bucket_is_opened_along_a_steady_line(seaweed):
    store = open_store(seaweed.url(), Access(credentials=seaweed.admin))
    assert isinstance(store, SteadyStore)
    assert store.put("v/a/p/1", [b"1"]) == 1
    assert store.list_names("v/") == ["v/a/p/1"]


@pytest.mark.parametrize(
    ("url", "directory"),
    [("/srv/a%b", "/srv/a%b"), ("/srv/x", "/srv/x"), ("file:///srv/a%20b", "/srv/a b")],
)
def test_only_urls_are_unquoted(url, directory):
    assert own_directories(url) == (directory,)
