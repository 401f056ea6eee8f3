"""A stand-in of Google's store or of Amazon's, with a bucket called `bucket`: `python store_emulator.py gs|s3 PORT`.

gcp-storage-emulator leaves out what TensorStore and our lock rely on: the number of a file's version in the header of
its content, and the conditions on that number. Both are added here as Google documents them.
"""

import http
import sys
import time


def serve_gs(port: int) -> None:
    """Serves the store of Google until the process ends."""
    from gcp_storage_emulator.exceptions import NotFound
    from gcp_storage_emulator.handlers import objects

    download, insert = objects.download, objects.insert

    def generation(storage, bucket, name):
        try:
            return str(storage.get_file_obj(bucket, name)["generation"])
        except NotFound:
            return "0"

    def refused(request, response, now):
        wanted, unwanted = (request.query.get(f"ifGeneration{kind}", [now])[0] for kind in ("Match", "NotMatch"))
        if wanted != now:
            response.status = http.HTTPStatus.PRECONDITION_FAILED
        elif "ifGenerationNotMatch" in request.query and unwanted == now:
            response.status = http.HTTPStatus.NOT_MODIFIED
        else:
            return False
        return True

    def get_content(request, response, storage, *args, **kwargs):
        now = generation(storage, request.params["bucket_name"], request.params["object_id"])
        if now == "0" or not refused(request, response, now):
            download(request, response, storage, *args, **kwargs)
            if now != "0":
                response["x-goog-generation"] = now

    def put_content(request, response, storage, *args, **kwargs):
        name = request.query.get("name", [None])[0]
        if name is None or not refused(request, response, generation(storage, request.params["bucket_name"], name)):
            insert(request, response, storage, *args, **kwargs)

    objects.download, objects.insert = get_content, put_content  # before the server makes its table of them
    from gcp_storage_emulator.server import create_server

    create_server("localhost", port, in_memory=True, default_bucket="bucket").run()


def serve_s3(port: int) -> None:
    """Serves the store of Amazon until the process ends."""
    import boto3
    from moto.server import ThreadedMotoServer

    ThreadedMotoServer(ip_address="localhost", port=port).start()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://localhost:{port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket="bucket")
    time.sleep(3600)


if __name__ == "__main__":
    {"gs": serve_gs, "s3": serve_s3}[sys.argv[1]](int(sys.argv[2]))
