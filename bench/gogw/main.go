// Two Go gateways in front of the bench backend: grpc-gateway (generated code) and vanguard (descriptors).
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	"connectrpc.com/vanguard"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	benchv1 "bench/gen/bench/v1"
)

func main() {
	mode := flag.String("mode", "grpc-gateway", "grpc-gateway or vanguard")
	address := flag.String("address", "127.0.0.1:8080", "where to listen")
	upstream := flag.String("upstream", "127.0.0.1:50051", "the gRPC server")
	flag.Parse()

	handler, err := gateway(*mode, *upstream)
	if err != nil {
		log.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Addr:      *address,
		Handler:   handler,
		Protocols: protocols,
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 1000},
	}
	log.Fatal(server.ListenAndServe())
}

func gateway(mode, upstream string) (http.Handler, error) {
	if mode == "grpc-gateway" {
		mux := runtime.NewServeMux()
		plain := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
		return mux, benchv1.RegisterLibraryHandlerFromEndpoint(context.Background(), mux, upstream, plain)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: upstream})
	proxy.FlushInterval = -1
	proxy.Transport = &http2.Transport{
		AllowHTTP: true,
		DialTLSContext: func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	service := vanguard.NewServiceWithSchema(
		benchv1.File_bench_proto.Services().ByName("Library"), proxy,
		vanguard.WithTargetProtocols(vanguard.ProtocolGRPC), vanguard.WithTargetCodecs(vanguard.CodecProto))
	return vanguard.NewTranscoder([]*vanguard.Service{service})
}
