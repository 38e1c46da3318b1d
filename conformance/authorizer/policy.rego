# What Open Policy Agent decides in conformance/authorizer.sh: who has a token may make empty calls, and Ann unary ones too.
package envoy.authz

import rego.v1

users := {"Bearer token-of-ann": "ann", "Bearer token-of-bob": "bob"}

methods := {
	"ann": {"/grpc.testing.TestService/EmptyCall", "/grpc.testing.TestService/UnaryCall"},
	"bob": {"/grpc.testing.TestService/EmptyCall"},
}

http := input.attributes.request.http

default decision := {
	"allowed": false,
	"http_status": 401,
	"headers": {"www-authenticate": "Bearer realm=\"policy\""},
	"body": "who are you?",
}

decision := {
	"allowed": true,
	"headers": {"x-grpc-test-echo-initial": user},
	"request_headers_to_remove": ["authorization"],
	"response_headers_to_add": {"x-policy": input.attributes.contextExtensions.site},
} if {
	user := users[http.headers.authorization]
	http.path in methods[user]
}

decision := {"allowed": false, "http_status": 403, "body": sprintf("%s may not do that", [user])} if {
	user := users[http.headers.authorization]
	not http.path in methods[user]
}
