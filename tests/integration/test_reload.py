"""SIGHUP: a configuration that is whole comes into force, one that is broken does not."""

import signal
from pathlib import Path

from tests.site import Site, wait_for


def test_after_a_broken_reload_pushes_are_deployed_by_the_configuration_before_it(site: Site) -> None:
    remote = site.add_repo("blog", deploy="true")
    site.start()
    whole = site.config_path.read_text()
    site.config_path.write_text("repos: {blog: {colour: red}}\n")

    site.signal(signal.SIGHUP)
    wait_for(lambda: "the configuration before it stays in force" in site.log(), "the reload")
    revision = remote.push()

    assert site.deliver("blog", revision).status == 202
    assert site.wait_for_job("blog", "succeeded")["new_revision"] == revision
    assert f"{site.config_path}:1: repos.blog.colour: unknown key" in site.log()
    site.config_path.write_text(whole)
    assert any("stays in force" in problem for problem in site.json("status")["problems"])
    site.signal(signal.SIGHUP)
    wait_for(lambda: site.json("status")["problems"] == [], "the mended configuration")


def test_a_repo_that_is_dropped_into_conf_d_is_served_after_a_reload(site: Site) -> None:
    site.add_repo("blog")
    shop = site.add_repo("shop")
    entry = site.settings["repos"].pop("shop")
    site.write_config()
    site.start()
    assert site.deliver("shop", shop.tip()).status == 200
    conf_d = site.root / "conf.d"
    conf_d.mkdir()
    (conf_d / "shop.yaml").write_text(f"repos: {{shop: {{url: {entry['url']}, path: {entry['path']}}}}}\n")

    site.signal(signal.SIGHUP)
    wait_for(lambda: "repos blog, shop" in site.log(), "the reload")

    assert site.deliver("shop", shop.push()).status == 202
    site.wait_for_job("shop", "succeeded")


def test_a_broken_configuration_at_the_start_is_answered_503_until_it_is_mended(site: Site) -> None:
    remote = site.add_repo("blog")
    whole = site.config_path.read_text()
    site.config_path.write_text("repos: [blog]\n")
    site.start()

    answer, ready = site.deliver("blog", remote.tip()), site.get("/readyz")

    assert (answer.status, ready.status) == (503, 503)
    assert int(answer.headers["Retry-After"]) > 0
    assert "repos" in ready.payload["error"]
    site.config_path.write_text(whole)
    site.signal(signal.SIGHUP)
    wait_for(lambda: site.get("/readyz").status == 200, "the mended configuration")
    assert site.deliver("blog", remote.tip()).status == 202
    site.wait_for_job("blog", "succeeded")


def test_a_configuration_that_is_broken_at_the_start_comes_into_force_as_soon_as_it_is_mended(site: Site) -> None:
    remote = site.add_repo("blog")
    whole = site.config_path.read_text()
    site.config_path.write_text("repos: [blog]\n")
    site.start()
    assert site.deliver("blog", remote.tip()).status == 503

    site.config_path.write_text(whole)  # and nobody reloads it

    wait_for(lambda: site.get("/readyz").status == 200, "the mended configuration")
    assert site.deliver("blog", remote.tip()).status == 202
    site.wait_for_job("blog", "succeeded")


def test_after_a_broken_reload_the_mended_configuration_comes_into_force_by_itself(site: Site) -> None:
    site.add_repo("blog")
    site.start()
    site.config_path.write_text("colour: red\n")
    site.signal(signal.SIGHUP)
    wait_for(lambda: site.get("/readyz").status == 503, "the reload")

    shop = site.add_repo("shop")  # writes it, in order and with one more

    wait_for(lambda: site.get("/readyz").status == 200, "the mended configuration")
    assert site.deliver("shop", shop.tip()).status == 202
    assert site.json("status")["problems"] == []


def test_a_configuration_in_order_that_is_changed_waits_for_its_reload(site: Site, tmp_path: Path) -> None:
    site.add_repo("blog")
    site.start()
    site.config_path.write_text("colour: red\n")
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other")
    try:
        whole = other.config_path.read_text()
        other.config_path.write_text("colour: red\n")
        other.start()
        other.config_path.write_text(whole)
        wait_for(lambda: other.get("/readyz").status == 200, "another daemon to have looked again")
    finally:
        other.close()

    assert site.get("/readyz").status == 200
    assert "colour" not in site.log()
