"""The same application as a Ray Serve deployment: `serve run ray_serve:app`, in this folder."""

from ray import serve

from weevit.serve.app import asgi


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1})
@serve.ingress(lambda: asgi("digits", threads=1))
class Weevit:
    """Two replicas with a thread each; Ray spreads requests over them."""


app = Weevit.bind()
