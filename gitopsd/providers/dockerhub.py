"""Docker Hub.

Source: docs.docker.com, "Webhooks" of Docker Hub. It signs nothing, sends no header of its own and tells no digest: the
secret is the last part of the URL. `callback_url` is a stranger's to name, and is never called.
"""

from gitopsd.model import Event
from gitopsd.payload import Payload, get_object, get_text
from gitopsd.providers.images import image_of
from gitopsd.providers.provider import JSON, Headers, Provider
from gitopsd.schemes import PathScheme


def parse(_headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery, which is a push. Raises PayloadError if it is not what Docker Hub sends."""
    name = get_text(get_object(payload, "repository"), "repo_name")
    tag = get_text(get_object(payload, "push_data"), "tag")
    return Event(kind="push", images=(image_of(name, tag, host="docker.io", keys=("repo_name", "tag", "")),))


PROVIDER = Provider(
    name="dockerhub",
    schemes=(PathScheme(),),
    parse=parse,
    media_types=(JSON,),
    url_label="Webhook URL",
    form_at="Docker Hub: the repository, Webhooks",
    form=(("Webhook name", "gitopsd"),),
)
