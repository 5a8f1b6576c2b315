"""AWS JSON 1.1 is JSON."""

import schemathesis

AWS_JSON = "application/x-amz-json-1.1"

schemathesis.serializer.alias(AWS_JSON, "application/json")


@schemathesis.deserializer(AWS_JSON)
def read(_context, response):
    return response.json()
