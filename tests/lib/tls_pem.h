/* SPDX-License-Identifier: Apache-2.0 */
/* tls_pem.h: a certificate for localhost that signed itself, and its key. For tests only. */
#ifndef BRIG_TEST_TLS_PEM_H
#define BRIG_TEST_TLS_PEM_H

#define TLS_CERT \
	"-----BEGIN CERTIFICATE-----\n" \
	"MIIBmzCCAUGgAwIBAgIUavhSir1Xgd/jxt9v5+n4dImnXxQwCgYIKoZIzj0EAwIw\n" \
	"FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNDE2NTgxNFoYDzIxMjYxMDMx\n" \
	"MTY1ODE0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n" \
	"PQMBBwNCAARNkInKitGwaOuc47lMwf9YrMCYb+EjHZpRsqEoTTDTMozhwTYZfcp8\n" \
	"+rvMOxTL4p9Ocm4E70EfYk96MKoyrLfco28wbTAdBgNVHQ4EFgQUQbTeIJghBjqU\n" \
	"AJJBSKH8LQhr5VUwHwYDVR0jBBgwFoAUQbTeIJghBjqUAJJBSKH8LQhr5VUwDwYD\n" \
	"VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI\n" \
	"zj0EAwIDSAAwRQIgAaDsZ7gGdNiCdMhLOxoo64iTDCqQsf6GnMPhcEDTDLICIQCW\n" \
	"csBpJDrqQuGg4OgXAbJRqhCEuRbeSiz6R+KMVdJFOg==\n" \
	"-----END CERTIFICATE-----\n"
#define TLS_KEY \
	"-----BEGIN PRIVATE KEY-----\n" \
	"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg9hZUUVpAdfCanLv7\n" \
	"fzJGHqBD6PdD0BaLopvcv5tbKCWhRANCAARNkInKitGwaOuc47lMwf9YrMCYb+Ej\n" \
	"HZpRsqEoTTDTMozhwTYZfcp8+rvMOxTL4p9Ocm4E70EfYk96MKoyrLfc\n" \
	"-----END PRIVATE KEY-----\n"

#endif
